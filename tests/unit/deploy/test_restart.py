"""What decides how the registry is restarted without turning a client away."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sysreg_cli.deploy import restart
from sysreg_cli.deploy.machine import CommandFailed
from sysreg_cli.host import connections
from tests.unit.deploy.machine import FakePrograms, context_of


def test_a_listener_is_found_without_connecting_to_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert connections.listens(port)
        with socket.create_connection(("127.0.0.1", port)) as client:
            # an established connection is no listener
            assert not connections.is_listening(Path("/proc/net/tcp").read_text(), client.getsockname()[1])
    assert not connections.listens(port)


def test_only_first_packets_to_that_port_are_dropped_and_for_a_limited_time() -> None:
    rules = connections.hold_rules(9443, 14)
    assert "tcp flags & (fin | syn | rst | ack) == syn tcp dport @held drop" in rules
    assert "{ 9443 timeout 14s }" in rules


@dataclass
class Machine(FakePrograms):
    """A port whose listener is away while its unit restarts."""

    port: int = 0
    listener: socket.socket | None = None

    def change(self, *args: str, timeout: float = 90) -> None:
        if args[0] == "systemctl":
            assert self.listener is not None
            self.listener.close()
            self.listener = socket.create_server(("127.0.0.1", self.port))
        super().change(*args, timeout=timeout)


@pytest.fixture
def machine() -> Iterator[Machine]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Machine(port=listener.getsockname()[1], listener=listener)
        yield made
        assert made.listener is not None
        made.listener.close()


def test_new_connections_wait_while_a_unit_restarts(machine: Machine, tmp_path: Path) -> None:
    restart.Listener("some.service", machine.port).restart(context_of(tmp_path, machine))
    held, held_again, restarted = machine.changes
    assert held == f"nft {connections.hold_rules(machine.port, 8)}"
    assert held_again == f"nft {connections.hold_rules(machine.port, 14)}"
    assert restarted == "systemctl restart some.service"
    assert machine.queries[-1] == "nft delete table inet sysreg"


def test_they_are_admitted_after_a_restart_that_failed(machine: Machine, tmp_path: Path) -> None:
    machine.failing["systemctl restart some.service"] = "Job failed"
    with pytest.raises(CommandFailed, match="Job failed"):
        restart.Listener("some.service", machine.port).restart(context_of(tmp_path, machine))
    assert machine.queries[-1] == "nft delete table inet sysreg"


def test_without_nftables_the_operator_is_told_what_that_means(machine: Machine, tmp_path: Path) -> None:
    machine.failing[f"nft {connections.hold_rules(machine.port, 8)}"] = "Operation not permitted"
    reported: list[str] = []
    context = dataclasses.replace(context_of(tmp_path, machine), report=reported.append)
    restart.Listener("some.service", machine.port).restart(context)
    (line,) = reported
    assert line.endswith("while some.service restarts: nft failed: Operation not permitted")
    assert machine.changes[-1] == "systemctl restart some.service"


def test_a_unit_that_does_not_listen_is_started_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    programs = FakePrograms()
    restart.Listener("some.service", port).restart(context_of(tmp_path, programs))
    assert programs.changes == ["systemctl restart some.service"]
