"""What listens at a port, whose addresses are this host's, and what is to be ended."""

from __future__ import annotations

import pytest

from sysreg_cli.health import listeners
from sysreg_cli.health.remedies import take_port
from sysreg_cli.host.processes import Process
from sysreg_cli.settings import AgentSettings, Settings


def test_a_loopback_address_is_this_hosts_also_without_ipv6() -> None:
    assert listeners._is_own("::1")
    assert listeners._is_own("127.0.0.1")
    assert not listeners._is_own("192.0.2.1")


@pytest.mark.parametrize(
    ("process", "restart", "command"),
    [
        (Process(7, "nginx", 0, "nginx.service"), "", "systemctl stop nginx.service && systemctl restart r"),
        (Process(7, "nc", 0), "", "kill 7 && systemctl restart r"),
        (Process(1, "systemd", 0), "", "systemctl list-sockets"),
        (Process(7, "docker-proxy", 0, "docker.service"), "", "docker ps"),
        (Process(7, "nginx", 0, "sm.service"), "sm-restart-safe service {unit}", "sm-restart-safe service r"),
    ],
    ids=["a service", "a process", "a socket unit", "a container", "a service manager"],
)
def test_no_manager_of_other_services_is_to_be_stopped(process: Process, restart: str, command: str) -> None:
    agent = AgentSettings(restart_command=restart) if restart else AgentSettings()
    assert take_port(Settings(agent=agent), "r", [process]).command == command
