"""Service commands: cut into words before the unit's name is put in, bounded in time, told when they fail."""

from pathlib import Path

import pytest

from devstack.waiting import wait_until
from sysreg_cli.errors import SettingsError, Unavailable
from sysreg_cli.host.services import Services
from sysreg_cli.settings import AgentSettings


def services(restart: str = "true", reload: str = "true", timeout: int = 5) -> Services:
    return Services(AgentSettings(restart_command=restart, reload_command=reload, restart_timeout=timeout))


def test_the_unit_is_one_word_whatever_it_holds(tmp_path: Path) -> None:
    services(f'sh -c \'printf "%s|" "$@" > {tmp_path}/out\' sh restart "{{unit}}" now').restart(
        "a b; c.service"
    )
    assert (tmp_path / "out").read_text() == "restart|a b; c.service|now|"


def test_a_failing_command_is_named_with_what_it_said() -> None:
    with pytest.raises(Unavailable, match="status 3: no such unit"):
        services("sh -c 'echo no such unit; exit 3'").restart("x.service")


def test_a_missing_command_is_named() -> None:
    with pytest.raises(Unavailable, match="x.service: `/no/such {unit}`".replace("{unit}", "x.service")):
        services("/no/such {unit}").restart("x.service")


def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    command = f"sh -c 'sleep 600 & echo $! > {tmp_path}/child; sleep 600'"
    with pytest.raises(Unavailable, match="did not end within 1 s"):
        services(command, timeout=1).restart("x.service")
    child = Path("/proc", (tmp_path / "child").read_text().strip(), "cmdline")
    wait_until(lambda: not child.exists() or not child.read_bytes(), 20, what="the child has ended")


def test_a_service_that_cannot_reload_is_restarted(tmp_path: Path) -> None:
    services(f"touch {tmp_path}/restarted", "false").reload("x.service")
    assert (tmp_path / "restarted").exists()


@pytest.mark.parametrize("command", ["", "systemctl 'restart {unit}"])
def test_a_command_that_makes_no_sense_is_refused_at_the_start(command: str) -> None:
    with pytest.raises(SettingsError, match="restart_command"):
        services(command)
