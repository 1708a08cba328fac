"""What certificate-list --history shows, and where certificate-rollback goes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sysreg_cli.v1 import paths
from tests import certificates as make
from tests.unit.agent.certificate.api import call
from tests.unit.agent.certificate.host import NEW, OLD, Host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def install(host: Host, leaf: make.Issued | None = None) -> str:
    """Install a server certificate of a root of its own; returns its serial number."""
    root = make.authority()
    leaf = leaf or make.server(root)
    chain = (
        make.bundle(leaf) if leaf.certificate.issuer == leaf.certificate.subject else make.bundle(leaf, root)
    )
    done = call(host, "POST", paths.CERTIFICATE_INSTALL, {"mode": "docker_registry"}, chain)
    assert done["error"] == ""
    return str(leaf.certificate.serial_number)


def roll_back(host: Host, serial: str = "") -> Any:
    query = f"serial={serial}" if serial else ""
    return call(host, "POST", paths.CERTIFICATE_ROLLBACK, query=query)


def history(host: Host) -> list[Any]:
    entries: list[Any] = call(host, "GET", paths.CERTIFICATE_HISTORY)["history"]
    return entries


def states(host: Host) -> list[tuple[str, str]]:
    return [(entry["serial"], entry["state"]) for entry in history(host)]


def in_use(host: Host) -> str:
    (serial,) = [serial for serial, state in states(host) if state == "in use"]
    assert host.in_use() == host.generations.current()
    return serial


def test_every_install_is_in_the_history_with_its_user(host: Host) -> None:
    serials = [install(host) for _ in range(5)]
    entries = history(host)[-5:]
    assert [(entry["serial"], entry["state"]) for entry in entries] == list(
        zip(serials, ["removed", "removed", "kept", "kept", "in use"], strict=True)
    )
    assert {entry["installed_by"] for entry in entries} == {"root"}
    assert {entry["name"] for entry in entries} == {"docker_registry"}


def test_a_rollback_brings_back_the_one_before_and_again_the_one_after(host: Host) -> None:
    first, second = install(host), install(host)
    assert roll_back(host)["certificates"][0]["signature"] == f"docker_registry_{first}"
    assert in_use(host) == first
    roll_back(host)
    assert in_use(host) == second


def test_a_rollback_skips_copies_of_the_one_in_use(host: Host) -> None:
    first = install(host)
    leaf = make.server()
    for _ in range(2):
        install(host, leaf)
    roll_back(host)
    assert in_use(host) == first


def test_a_rollback_to_a_serial_number(host: Host) -> None:
    first, _, third = install(host), install(host), install(host)
    roll_back(host, first)
    assert in_use(host) == first
    assert "is in use" in roll_back(host, first)["error"]
    assert "is kept" in roll_back(host, "1")["error"]
    assert "decimal" in roll_back(host, "0x1")["error"]
    roll_back(host, third)
    assert in_use(host) == third


def test_one_that_expired_or_lacks_a_name_is_refused_and_nothing_changes(host: Host) -> None:
    now = datetime.now(UTC)
    for changes, reason in (
        ({"start": now - timedelta(days=9), "end": now - timedelta(days=1)}, "expired at"),
        ({"names": ["other.example"]}, "lacks the DNS name"),
    ):
        kept = make.server(**changes)
        host.add_chain(host.generations.next_name(), kept)
        host.generations.use(host.generations.names()[-1])
        serial = install(host)
        before = host.snapshot()
        done = roll_back(host, str(kept.certificate.serial_number))
        assert reason in done["error"]
        assert len(done["reasons"]) == 1
        assert host.snapshot() == before
        assert in_use(host) == serial
        expected = "expired" if "end" in changes else "kept"
        assert (str(kept.certificate.serial_number), expected) in states(host)


def test_a_rollback_whose_services_do_not_follow_leaves_the_one_in_use(host: Host) -> None:
    install(host)
    serial = install(host)
    host.services.broken = {host.generations.next_name()}
    assert "not installed" in roll_back(host)["error"]
    assert in_use(host) == serial


def test_without_an_earlier_one_there_is_nothing_to_go_back_to(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert "no earlier certificate" in roll_back(host)["error"]
    assert host.generations.current() == OLD


def test_an_authority_is_in_the_history_until_its_record_is_lost_and_then_too(host: Host) -> None:
    ca = make.authority()
    call(host, "POST", paths.CERTIFICATE_INSTALL, {"mode": "ssl_ca"}, ca.pem)
    serial = str(ca.certificate.serial_number)
    (entry,) = [entry for entry in history(host) if entry["serial"] == serial]
    assert (entry["name"], entry["state"], entry["installed_by"]) == (f"ssl_ca_{serial}", "in use", "root")
    host.history.unlink()
    (entry,) = [entry for entry in history(host) if entry["serial"] == serial]
    assert (entry["state"], entry["installed_by"]) == ("in use", "")


def test_fields_and_formats_of_other_versions_survive(host: Host) -> None:
    call(host, "POST", paths.CERTIFICATE_INSTALL, {"mode": "ssl_ca"}, make.authority().pem)
    document = json.loads(host.history.read_text())
    document["records"][0]["of the future"] = [1]
    host.history.write_text(json.dumps(document))
    call(host, "POST", paths.CERTIFICATE_INSTALL, {"mode": "ssl_ca"}, make.authority().pem)
    document = json.loads(host.history.read_text())
    assert document["records"][0]["of the future"] == [1]
    assert len(document["records"]) == 2

    newer = json.dumps({"format": 2, "records": {}})
    host.history.write_text(newer)
    call(host, "POST", paths.CERTIFICATE_INSTALL, {"mode": "ssl_ca"}, make.authority().pem)
    assert host.history.read_text() == newer


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1, "records": [7]}', "\0\xff"])
def test_a_damaged_history_stops_nothing(host: Host, text: str) -> None:
    host.history.write_text(text)
    (host.generations.path(OLD) / "installed.json").write_text(text)
    serials = [install(host) for _ in range(4)]
    assert [serial for serial, _ in states(host)][-4:] == serials


def test_a_generation_of_an_older_version_shows_when_it_was_made(host: Host) -> None:
    (host.generations.path(OLD) / "installed.json").unlink()
    (entry,) = [entry for entry in history(host) if entry["state"] == "in use"]
    assert entry["installed_by"] == ""
    assert datetime.fromisoformat(entry["installed_at"]) > datetime.now(UTC) - timedelta(hours=1)
    assert NEW in host.generations.names()
