"""Which CA certificate an uninstall removes, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sysreg_cli.host.anchors import anchor_name
from sysreg_cli.v1 import paths
from tests import certificates as make
from tests.unit.agent.certificate.api import call
from tests.unit.agent.certificate.host import Host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def install(host: Host, *authorities: make.Issued) -> list[Any]:
    pem = b"".join(authority.pem for authority in authorities)
    installed: list[Any] = call(host, "POST", paths.CERTIFICATE_INSTALL, {"mode": "ssl_ca"}, pem)[
        "certificates"
    ]
    return installed


def uninstall(host: Host, name: str) -> Any:
    return call(host, "DELETE", f"{paths.CERTIFICATE}/{name}")


def files(host: Host) -> set[str]:
    return {path.name for path in host.settings.paths.system_trust.iterdir()}


@pytest.mark.parametrize("key", ["name", "uuid"])
def test_one_is_removed_by_its_name_or_uuid(host: Host, key: str) -> None:
    kept, removed = make.authority("Kept"), make.authority("Removed")
    shown = {one["subject"]: one for one in install(host, kept, removed)}
    done = uninstall(host, shown["CN=Removed"][key])
    assert done["certificate"]["subject"] == "CN=Removed"
    assert files(host) == {anchor_name(kept.certificate)}
    history = {
        entry["serial"]: entry["state"] for entry in call(host, "GET", paths.CERTIFICATE_HISTORY)["history"]
    }
    assert history[str(removed.certificate.serial_number)] == "removed"
    assert history[str(kept.certificate.serial_number)] == "in use"
    assert "no certificate" in uninstall(host, shown["CN=Removed"][key])["error"]


def test_the_certificate_of_the_registry_is_refused_with_what_to_do(host: Host) -> None:
    (server,) = call(host, "GET", paths.CERTIFICATE)["certificates"]
    before = host.snapshot()
    for name in (server["name"], server["uuid"]):
        error = uninstall(host, name)["error"]
        assert "certificate-install -m docker_registry" in error
        assert "certificate-rollback docker_registry" in error
    assert host.snapshot() == before


@pytest.mark.parametrize("key", ["name", "uuid"])
def test_two_with_one_serial_number_are_told_apart(host: Host, key: str) -> None:
    shown = install(host, make.authority("A", serial=7), make.authority("B", serial=7))
    names = {one["uuid"]: one["name"] for one in call(host, "GET", paths.CERTIFICATE)["certificates"]}
    error = uninstall(host, "ssl_ca_7")["error"]
    assert all(names[one["uuid"]] in error for one in shown)
    assert len(files(host)) == 2
    uuid = shown[0]["uuid"]
    uninstall(host, {"uuid": uuid, "name": names[uuid]}[key])
    assert uninstall(host, "ssl_ca_7")["certificate"]["uuid"] == shown[1]["uuid"]


def test_one_that_was_installed_again_is_in_use_again(host: Host) -> None:
    ca = make.authority()
    for _ in range(2):
        (shown,) = install(host, ca)
        uninstall(host, shown["name"])
    install(host, ca)
    states = [
        entry["state"]
        for entry in call(host, "GET", paths.CERTIFICATE_HISTORY)["history"]
        if entry["serial"] == str(ca.certificate.serial_number)
    ]
    assert states == ["removed", "removed", "in use"]
