"""Which change of code or settings restarts which daemon."""

from __future__ import annotations

import ast
import dataclasses
import shutil
from pathlib import Path

import grimp
import pytest

from sysreg_cli.deploy.daemons import AGENT, PACKAGE, TOKEN_SERVER, AppliedSettings, Daemon
from sysreg_cli.settings import KeystoneSettings, Settings
from tests.unit.deploy.machine import apply, context_of, required

_SECTIONS = {field.name for field in dataclasses.fields(Settings)}


@pytest.fixture(scope="module")
def closures() -> dict[str, set[str]]:
    """Unit -> all modules that its daemon imports, directly or not, at its start or later."""
    graph = grimp.build_graph("sysreg_cli", include_external_packages=False, cache_dir=None)
    return {
        daemon.unit: {main, *graph.find_upstream_modules(main)}
        for daemon, main in (
            (TOKEN_SERVER, "sysreg_cli.token_server.main"),
            (AGENT, "sysreg_cli.agent.main"),
        )
    }


def source(module: str) -> Path:
    path = PACKAGE.parent / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@pytest.mark.parametrize("daemon", [TOKEN_SERVER, AGENT], ids=lambda daemon: daemon.unit)
def test_the_declared_code_is_what_the_daemon_imports(daemon: Daemon, closures: dict[str, set[str]]) -> None:
    imported = {source(module) for module in closures[daemon.unit]}
    imported |= {path.with_name("__init__.py") for path in imported}
    missing = {
        path for path in imported if not any(path.is_relative_to(PACKAGE / name) for name in daemon.code)
    }
    unused = {
        name for name in daemon.code if not any(path.is_relative_to(PACKAGE / name) for path in imported)
    }
    assert (missing, unused) == (set(), set()), "correct the lists in sysreg_cli/deploy/daemons.py"


@pytest.mark.parametrize("daemon", [TOKEN_SERVER, AGENT], ids=lambda daemon: daemon.unit)
def test_the_declared_sections_are_all_that_the_code_mentions(
    daemon: Daemon, closures: dict[str, set[str]]
) -> None:
    mentioned = {
        node.attr
        for module in closures[daemon.unit]
        if not module.startswith("sysreg_cli.settings")
        for node in ast.walk(ast.parse(source(module).read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name | ast.Attribute)
        and getattr(node.value, "id", getattr(node.value, "attr", "")).endswith(("settings", "configuration"))
    }
    assert mentioned & _SECTIONS <= set(daemon.sections)


@pytest.mark.parametrize(
    ("changed", "restarted"),
    [
        ("agent/main.py", {AGENT.unit}),
        ("token_server/app.py", {TOKEN_SERVER.unit}),
        ("pki/check.py", {AGENT.unit}),
        ("host/anchors.py", {AGENT.unit}),
        ("tokens/signer.py", {AGENT.unit, TOKEN_SERVER.unit}),
        ("settings/schema.py", {AGENT.unit, TOKEN_SERVER.unit}),
        ("cli/main.py", set()),
        ("deploy/main.py", set()),
    ],
)
def test_changed_code_concerns_the_daemons_that_import_it(
    tmp_path: Path, changed: str, restarted: set[str]
) -> None:
    package = tmp_path / "sysreg_cli"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    before = digests(package)
    path = package / changed
    path.write_text(path.read_text() + "# changed\n")
    assert {unit for unit, digest in digests(package).items() if digest != before[unit]} == restarted


def digests(package: Path, settings: Settings | None = None) -> dict[str, str]:
    return {daemon.unit: daemon.digest(settings or Settings(), package) for daemon in (AGENT, TOKEN_SERVER)}


def test_a_new_module_counts_as_a_change(tmp_path: Path) -> None:
    package = tmp_path / "sysreg_cli"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    before = digests(package)
    (package / "agent/extra.py").write_text("")
    assert digests(package)[AGENT.unit] != before[AGENT.unit]


def test_settings_concern_the_daemons_that_read_their_section() -> None:
    defaults = Settings()
    agent = dataclasses.replace(defaults.agent, collect_grace=7)
    assert changed_by(dataclasses.replace(defaults, agent=agent)) == {AGENT.unit}
    keystone = KeystoneSettings(auth_url="http://keystone:5000/v3")
    assert changed_by(dataclasses.replace(defaults, keystone=keystone)) == {AGENT.unit, TOKEN_SERVER.unit}


def changed_by(settings: Settings) -> set[str]:
    before, after = digests(PACKAGE), digests(PACKAGE, settings)
    return {unit for unit in before if before[unit] != after[unit]}


def test_a_daemon_is_restarted_once_for_a_digest(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    assert required(AppliedSettings("some.service", "1"), context).restarts == ("some.service",)
    apply(AppliedSettings("some.service", "1"), context)
    assert AppliedSettings("some.service", "1").compare(context_of(tmp_path)) is None
    assert AppliedSettings("other.service", "1").compare(context_of(tmp_path)) is not None
    assert AppliedSettings("some.service", "2").compare(context_of(tmp_path)) is not None
