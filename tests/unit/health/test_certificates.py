"""The checks of the certificate on the disk and of the trust in it: what is wrong, and which remedy fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sysreg_cli.errors import Unavailable
from sysreg_cli.health import certificates
from sysreg_cli.health.readings import Readings
from sysreg_cli.health.remedies import DEPLOY, INSTALL
from sysreg_cli.health.results import Result, Skipped, Status
from sysreg_cli.settings import CertificateSettings, DirectorySource, PathSettings, Settings
from tests import certificates as make

NOW = datetime.now(UTC)
ROOT = make.authority()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        certificate=CertificateSettings(directory=tmp_path / "tls"),
        paths=PathSettings(docker_trust=tmp_path / "docker", containerd_trust=tmp_path / "containerd"),
    )


def install(settings: Settings, leaf: make.Issued, *others: make.Issued) -> None:
    settings.certificate.chain.parent.mkdir(parents=True, exist_ok=True)
    settings.certificate.key.write_bytes(leaf.key_pem)
    settings.certificate.chain.write_bytes(b"".join(it.pem for it in (leaf, *others)))


def readings(settings: Settings, agent: Any = None) -> Readings:
    def connect() -> Any:
        if agent is None:
            raise Unavailable("no agent")
        return agent

    made = Readings(settings, connect)
    made.is_root = True
    made.agent_calls = connect  # type: ignore[method-assign]
    return made


def checked(settings: Settings, agent: Any = None) -> Result:
    return certificates.certificate(readings(settings, agent))


def test_what_an_install_would_refuse_is_a_failure_and_the_remedy_depends_on_who_made_it(
    settings: Settings,
) -> None:
    assert checked(settings).remedy == DEPLOY, "there is none"
    past: dict[str, Any] = {"start": NOW - timedelta(days=9), "end": NOW - timedelta(days=1)}
    install(settings, make.server(ROOT, **past), ROOT)
    assert (checked(settings).status, checked(settings).remedy) == (Status.FAILED, INSTALL)
    install(settings, make.server(**past))
    assert (checked(settings).status, checked(settings).remedy) == (Status.FAILED, DEPLOY)
    settings.certificate.chain.write_text("garbage")
    assert (checked(settings).status, checked(settings).remedy) == (Status.FAILED, DEPLOY)


def test_one_that_expires_soon_is_a_warning(settings: Settings) -> None:
    install(settings, make.server(ROOT, end=NOW + timedelta(days=29, hours=1)), ROOT)
    assert (checked(settings).status, checked(settings).remedy) == (Status.WARNING, INSTALL)
    assert checked(settings).what.startswith("29 days left")
    install(settings, make.server(ROOT, end=NOW + timedelta(days=31)), ROOT)
    assert checked(settings).status is Status.OK


def test_a_source_whose_certificate_is_not_in_use_is_a_warning(settings: Settings) -> None:
    class Agent:
        problem = "tls.key is missing"

        def certificate(self, name: str) -> Any:
            assert name == "docker_registry"
            return type("Shown", (), {"source_problem": self.problem})

    install(settings, make.server(ROOT), ROOT)
    source = replace(settings.certificate, source=DirectorySource(Path("/certs")))
    renewed = replace(settings, certificate=source)
    found = checked(renewed, Agent())
    assert found.status is Status.WARNING
    assert "it is not renewed from files:/certs: tls.key is missing" in found.what
    assert checked(settings, Agent()).status is Status.OK, "without a source nobody is asked"
    assert checked(renewed).status is Status.OK, "the agent is down, which its own row says"


Check = Callable[[Readings], Result]
_DOCKER, _CONTAINERD = certificates.docker_trust, certificates.containerd_trust


@pytest.mark.parametrize(
    ("check", "name", "text"),
    [
        (_DOCKER, "any.crt", "{pem}"),
        (_CONTAINERD, "any.crt", "{pem}"),
        (_CONTAINERD, "hosts.toml", '[host."https://registry.local:9001"]\nca = "ca.pem"\n'),
        (_CONTAINERD, "hosts.toml", '[host."https://registry.local:9001"]\nca = ["none.pem", "{ca}"]\n'),
        (_CONTAINERD, "hosts.toml", 'ca = ["{ca}"]\n'),
    ],
)
def test_trust_is_found_where_the_client_finds_it(
    settings: Settings, check: Check, name: str, text: str
) -> None:
    install(settings, make.server(ROOT), ROOT)
    client = "docker" if check is _DOCKER else "containerd"
    root = settings.paths.docker_trust if check is _DOCKER else settings.paths.containerd_trust
    directory = root / "registry.local:9001"
    directory.mkdir(parents=True)
    assert check(readings(settings)).status is Status.FAILED, f"{client} has nothing to trust"
    for anchor, status in ((make.authority(), Status.FAILED), (ROOT, Status.OK)):
        (directory / "ca.pem").write_bytes(anchor.pem)
        shown = text.replace("{pem}", anchor.pem.decode()).replace("{ca}", str(directory / "ca.pem"))
        (directory / name).write_text(shown)
        assert check(readings(settings)).status is status


def test_the_issuer_of_a_chain_without_its_root_is_trusted(settings: Settings) -> None:
    middle = make.authority("Middle", ROOT)
    install(settings, make.server(middle), middle)
    directory = settings.paths.docker_trust / "registry.local:9001"
    directory.mkdir(parents=True)
    (directory / "root.crt").write_bytes(ROOT.pem)
    assert certificates.docker_trust(readings(settings)).status is Status.OK


def test_without_a_certificate_nobody_can_say_who_trusts_it(settings: Settings) -> None:
    with pytest.raises(Skipped, match="see the check certificate"):
        certificates.docker_trust(readings(settings))
