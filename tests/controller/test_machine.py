"""The ground the controller tests stand on: a systemd of their own that can't touch the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.controller.machine import ADDRESS, CommandFailed, Machine


def test_commands_run_inside_and_report_their_exit_status(bare_machine: Machine) -> None:
    assert bare_machine.run("hostname").stdout == "controller-0\n"
    assert bare_machine.run("cat", stdin="over stdin").stdout == "over stdin"
    assert bare_machine.run("false", status=1).returncode == 1
    with pytest.raises(CommandFailed, match="exit 3, not 0"):
        bare_machine.shell("exit 3")


def test_the_disk_outlives_a_power_off_and_the_host_sees_nothing(bare_machine: Machine) -> None:
    bare_machine.shell("echo kept >/etc/only-inside; useradd --system only-inside")
    bare_machine.power_off()
    bare_machine.boot()
    assert bare_machine.run("cat", "/etc/only-inside").stdout == "kept\n"
    assert not Path("/etc/only-inside").exists()
    assert "only-inside" not in Path("/etc/passwd").read_text()


def test_nothing_but_its_own_addresses_can_be_reached(bare_machine: Machine) -> None:
    addresses = bare_machine.run("ip", "-brief", "address").stdout
    assert addresses.split() == ["lo", "UNKNOWN", "127.0.0.1/8", f"{ADDRESS}/32", "::1/128"]
