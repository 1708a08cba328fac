"""Which alarms are set and cleared, and that the command gets each change once, whatever it does."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sysreg_cli.agent.alarms.delivery import Alarms
from sysreg_cli.errors import SettingsError
from sysreg_cli.host.anchors import anchor_name
from sysreg_cli.host.generations import Generations
from sysreg_cli.pki.describe import describe
from sysreg_cli.settings import AlarmSettings, CertificateSettings, PathSettings, Settings
from sysreg_cli.v1.certificates import Mode
from tests import certificates as make

NOW = datetime.now(UTC)


class Host:
    """A host with a certificate, and a command for alarms that writes down what it gets."""

    def __init__(self, directory: Path) -> None:
        self.received = directory / "received"
        self.script = directory / "alarm"
        self.settings = dataclasses.replace(
            Settings(),
            certificate=CertificateSettings(directory=directory / "tls"),
            alarms=AlarmSettings(command=str(self.script)),
            paths=PathSettings(state=directory / "state", system_trust=directory / "ca"),
        )
        for name in ("tls", "state"):
            (directory / name).mkdir()
        self.takes_alarms()

    def takes_alarms(self, then: str = "") -> None:
        """Have the command write down what it gets, and then do something else."""
        self.script.write_text(f"#!/bin/sh\ncat >>{self.received}\n{then}\n")
        self.script.chmod(0o755)

    def use(self, *, days: float) -> str:
        """Use a certificate with so many days left. Return the entity of its alarms."""
        root = make.authority(end=NOW + timedelta(days=4000))
        end = NOW + timedelta(days=days)
        leaf = make.server(root, start=end - timedelta(days=90), end=end)
        generations = Generations(self.settings.certificate.directory)
        name = generations.next_name()
        generations.create(name, leaf.key_pem, leaf.pem + root.pem)
        generations.use(name)
        uuid = describe(leaf.certificate, Mode.DOCKER_REGISTRY).uuid
        return f"system.certificate.mode=docker_registry.uuid={uuid}"

    def update(self, *, after_days: float = 0, **options: Any) -> bool:
        """What an agent does that starts so many days later."""
        return Alarms(self.settings, **options).update(NOW + timedelta(days=after_days))

    def changes(self) -> list[dict[str, str]]:
        if not self.received.exists():
            return []
        return [json.loads(line) for line in self.received.read_text().splitlines()]

    def short(self) -> list[tuple[str, str, str]]:
        return [(change["action"], change["id"], change["entity"]) for change in self.changes()]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_each_change_arrives_once_over_restarts(host: Host) -> None:
    first = host.use(days=40)
    for day in (0, 5, 11, 12, 30, 39, 40, 41, 60):
        assert host.update(after_days=day)
    second = host.use(days=400)
    for day in (61, 62):
        assert host.update(after_days=day)
    assert host.short() == [
        ("set", "500.200", first),
        ("set", "500.210", first),
        ("clear", "500.200", first),
        ("clear", "500.210", first),
    ]
    assert second != first


def test_the_command_gets_what_starlingx_shows(host: Host) -> None:
    entity = host.use(days=3)
    host.update()
    (change,) = host.changes()
    assert set(change) == {"action", "id", "entity", "severity", "text", "time"}
    assert change["severity"] == "major"
    assert change["text"].startswith("Certificate docker_registry (system certificate-show ")
    assert f"expires on {NOW + timedelta(days=3):%Y-%m-%d %H:%M} UTC" in change["text"]
    assert datetime.fromisoformat(change["time"]) == NOW.replace(microsecond=0)
    host.update(after_days=4)
    assert [(late["severity"], late["entity"]) for late in host.changes()[1:]] == [
        ("critical", entity),
        ("major", entity),
    ]


def test_an_expired_intermediate_counts_and_so_does_a_ca_of_the_system(host: Host) -> None:
    root = make.authority(end=NOW + timedelta(days=4000))
    intermediate = make.authority("Intermediate", root, end=NOW + timedelta(days=2))
    leaf = make.server(intermediate)
    generations = Generations(host.settings.certificate.directory)
    generations.create("000001", leaf.key_pem, leaf.pem + intermediate.pem)
    generations.use("000001")
    authority = make.authority("CA", end=NOW + timedelta(days=1))
    host.settings.paths.system_trust.mkdir()
    (host.settings.paths.system_trust / anchor_name(authority.certificate)).write_bytes(authority.pem)
    host.update()
    assert [entity.split(".uuid")[0] for _, _, entity in host.short()] == [
        "system.certificate.mode=docker_registry",
        "system.certificate.mode=ssl_ca",
    ]


@pytest.mark.parametrize("then", ["exit 3", "sleep 60", "kill -9 $$"])
def test_a_command_that_fails_or_hangs_gets_the_alarm_again(host: Host, then: str) -> None:
    host.use(days=3)
    host.takes_alarms(then)
    assert not host.update(command_seconds=0.5)
    host.takes_alarms()
    assert host.update()
    assert host.update()
    assert [change["action"] for change in host.changes()] == ["set", "set"]


@pytest.mark.parametrize("command", ["/nowhere/alarm", "/etc/passwd"])
def test_a_command_that_is_missing_disturbs_nothing(
    host: Host, command: str, caplog: pytest.LogCaptureFixture
) -> None:
    host.use(days=3)
    host.settings = dataclasses.replace(host.settings, alarms=AlarmSettings(command=command))
    assert not host.update()
    assert "cannot be run" in caplog.text


def test_a_command_that_reads_nothing_or_leaves_a_child_is_done(host: Host) -> None:
    host.use(days=3)
    host.script.write_text("#!/bin/sh\nexec 0<&-\n")
    assert host.update()
    host.use(days=2)
    child = host.script.with_name("child")
    host.takes_alarms(f"setsid sleep 600 & echo $! >{child}")
    assert host.update(command_seconds=1), "it does not wait for the child"
    os.kill(int(child.read_text()), signal.SIGKILL)


def test_without_a_command_nothing_is_kept(host: Host) -> None:
    host.use(days=3)
    host.settings = dataclasses.replace(host.settings, alarms=AlarmSettings())
    assert list(host.settings.paths.state.iterdir()) == []
    with pytest.raises(SettingsError, match=r"command in section \[alarms\]"):
        Alarms(dataclasses.replace(host.settings, alarms=AlarmSettings(command='"')))


def test_an_agent_that_stops_begins_no_command(host: Host) -> None:
    host.use(days=3)
    alarms = Alarms(host.settings)
    alarms.stop()
    assert not alarms.update(NOW)
    assert host.changes() == []


def test_a_full_disk_and_a_damaged_file_repeat_alarms_but_lose_none(host: Host) -> None:
    host.use(days=3)
    host.update()
    (host.settings.paths.state / "alarms.json").write_text("{")
    host.update()
    assert [change["action"] for change in host.changes()] == ["set", "set"]
