"""Which commands are ours, and which other `system` is found, decided without click."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from sysreg_cli.cli import delegation, global_options
from sysreg_cli.cli.main import system


def program(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    "line",
    [
        "",
        "registry-image-list",
        "-f json registry-image-list",
        "-fjson registry-image-list",
        "-c host-list registry-image-list",
        "registry-image-list --no-such-option",
        "--debug registry-image-tags x",
        "--os-username host-list registry-image-list",
        "--os-username=x registry-image-list",
        "--help",
        "--version",
        "-h",
        "help",
        "help registry-image-list",
        "help --debug registry-image-list",
        "bash-completion",
        "--timeout",
    ],
)
def test_our_commands_and_bare_options_stay_with_us(line: str) -> None:
    assert delegation.is_own(line.split())


@pytest.mark.parametrize(
    "line",
    [
        "host-list",
        "registry-image",
        "REGISTRY-IMAGE-LIST",
        "--debug host-list",
        "--os-username registry-image-list host-list",
        "--os-username=registry-image-list host-list",
        "--os-endpoint-type internalURL registry-image-list",
        "--no-such-option",
        "-f json host-list",
        "-x",
        "--",
        "help host-list",
    ],
)
def test_commands_and_options_of_the_platform_are_not_ours(line: str) -> None:
    assert not delegation.is_own(line.split())


def test_the_options_known_without_click_are_those_of_the_program() -> None:
    options = [parameter for parameter in system.params if isinstance(parameter, click.Option)]
    valued = {name for option in options if not option.is_flag for name in option.opts}
    flags = {name for option in options if option.is_flag for name in option.opts}
    assert set(global_options.WITH_VALUE) == valued
    assert set(global_options.FLAGS) == flags | {"-h", "--help"}


def test_an_empty_word_is_not_ours() -> None:
    assert not delegation.is_own([""])


def test_the_others_are_found_in_the_order_of_path(tmp_path: Path) -> None:
    own = program(tmp_path / "ours/system")
    first = program(tmp_path / "first/system")
    second = program(tmp_path / "second/system")
    path = f"{first.parent}:{own.parent}:{tmp_path}/missing:{second.parent}"
    assert delegation.other_programs(path, str(own)) == [str(first), str(second)]


def test_the_platforms_program_is_found_under_the_name_that_dpkg_diverted_it_to(tmp_path: Path) -> None:
    own = program(tmp_path / "bin/system")
    diverted = program(tmp_path / "bin/system.distrib")
    assert delegation.other_programs(f"{tmp_path}/bin", str(own)) == [str(diverted)]


def test_a_link_to_us_is_not_another(tmp_path: Path) -> None:
    own = program(tmp_path / "ours/system")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/system").symlink_to(own)
    assert delegation.other_programs(f"{tmp_path}/bin", str(own)) == []


def test_the_console_script_of_a_second_installation_is_not_another(tmp_path: Path) -> None:
    own = program(tmp_path / "ours/system")
    twin = program(tmp_path / "twin/system", "#!/usr/bin/python3\nfrom sysreg_cli.cli.start import main\n")
    assert delegation.other_programs(str(twin.parent), str(own)) == []


def test_empty_and_relative_entries_of_path_are_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "system")
    program(tmp_path / "bin/system")
    monkeypatch.chdir(tmp_path)
    assert delegation.other_programs(":bin:./bin:.:", "/ours/system") == []


def test_what_cannot_be_run_is_not_another(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/system").write_text("not executable")
    (tmp_path / "b/system").mkdir(parents=True)
    assert delegation.other_programs(f"{tmp_path}/a:{tmp_path}/b", "/ours/system") == []


def test_a_program_that_the_kernel_refuses_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = program(tmp_path / "a/system", "#!/no/such/interpreter\n")
    good = program(tmp_path / "b/system")
    tried: list[tuple[str, list[str]]] = []

    def execve(path: str, arguments: list[str], environ: dict[str, str]) -> None:
        tried.append((path, arguments))
        if path == str(broken):
            raise FileNotFoundError(path)
        raise KeyboardInterrupt  # stands for "we are the other program now"

    monkeypatch.setattr(os, "execve", execve)
    with pytest.raises(KeyboardInterrupt):
        delegation.delegate(["host-list", "-x"], {"PATH": f"{broken.parent}:{good.parent}"}, "/ours/system")
    assert tried == [(str(broken), ["system", "host-list", "-x"]), (str(good), ["system", "host-list", "-x"])]


def test_without_another_system_it_returns() -> None:
    delegation.delegate(["host-list"], {"PATH": "/nowhere"}, "/ours/system")


def test_the_decision_imports_nothing_heavy() -> None:
    script = "import sys; import sysreg_cli.cli.delegation; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"click", "pathlib", "subprocess", "importlib.metadata", "sysreg_cli.errors"}
