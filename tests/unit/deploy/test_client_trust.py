"""docker and containerd trust the certificate in use, and administrators keep what they wrote."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sysreg_cli.deploy.client_trust import ClientTrust
from sysreg_cli.deploy.resource import Context
from sysreg_cli.host.generations import Generations
from sysreg_cli.pki.selfsigned import self_signed
from sysreg_cli.settings import CertificateSettings, PathSettings, RegistrySettings, Settings
from tests.unit.deploy.machine import apply, context_of, required

_ADDRESS = "registry.local:9001"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "tls").mkdir()
    return Settings(
        certificate=CertificateSettings(directory=tmp_path / "tls"),
        paths=PathSettings(
            state=tmp_path / "state",
            docker_trust=tmp_path / "docker/certs.d",
            containerd_trust=tmp_path / "containerd/certs.d",
            system_trust=tmp_path / "ca-certificates",
        ),
    )


@pytest.fixture
def context(settings: Settings) -> Context:
    return context_of(settings.paths.state)


def trust(settings: Settings) -> ClientTrust:
    return ClientTrust(settings, mounted_by=("agent.service",))


def use_new_certificate(settings: Settings) -> None:
    generations = Generations(settings.certificate.directory)
    name = generations.next_name()
    generations.create(name, *self_signed(settings.registry.host_names, now=datetime.now(UTC)))
    generations.use(name)


def anchors(settings: Settings) -> set[bytes]:
    """What both clients trust; both have to trust the same."""
    docker, containerd = (
        {path.read_bytes() for path in (root / _ADDRESS).glob("*.crt")}
        for root in (settings.paths.docker_trust, settings.paths.containerd_trust)
    )
    assert docker == containerd
    return docker


def test_a_new_certificate_is_trusted_and_the_old_one_no_more(settings: Settings, context: Context) -> None:
    change = required(trust(settings), context)
    assert change.restarts == ("agent.service",), "its mount points do not exist yet"
    use_new_certificate(settings)
    change.apply(context)
    assert trust(settings).compare(context) is None
    before = anchors(settings)
    use_new_certificate(settings)
    assert required(trust(settings), context).restarts == ()
    apply(trust(settings), context)
    assert len(anchors(settings)) == 1
    assert anchors(settings) != before


def test_damaged_files_are_repaired(settings: Settings, context: Context) -> None:
    use_new_certificate(settings)
    apply(trust(settings), context)
    for path in [
        *settings.paths.docker_trust.rglob("*.crt"),
        *settings.paths.containerd_trust.rglob("*.toml"),
    ]:
        for damage in (lambda path: path.chmod(0o666), lambda path: path.write_text("garbage"), Path.unlink):
            damage(path)
            apply(trust(settings), context)
            assert path.stat().st_mode & 0o777 == 0o644


def test_an_address_that_the_settings_had_once_is_trusted_no_more(
    settings: Settings, context: Context
) -> None:
    use_new_certificate(settings)
    apply(trust(settings), context)
    moved = dataclasses.replace(settings, registry=RegistrySettings(port=9443))
    assert f"end the trust at {_ADDRESS}" in apply(trust(moved), context)
    assert anchors(settings) == set()


def test_a_file_of_the_administrators_comes_back(settings: Settings, context: Context) -> None:
    use_new_certificate(settings)
    theirs = settings.paths.containerd_trust / _ADDRESS / "hosts.toml"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("theirs")
    assert required(trust(settings), context).foreign
    apply(trust(settings), context)
    assert theirs.read_text() != "theirs"
    assert "sysreg-" in trust(settings).remove(context)
    assert theirs.read_text() == "theirs"
    assert anchors(settings) == set()
