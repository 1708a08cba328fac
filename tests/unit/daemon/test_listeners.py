"""Listening sockets."""

import grp
import os
import socket
from pathlib import Path

import pytest

from sysreg_cli.addresses import HostPort
from sysreg_cli.daemon.listeners import tcp_listener, unix_listener
from sysreg_cli.errors import SysregError, Unavailable


def test_the_kernel_finds_peers_that_vanished() -> None:
    with (
        tcp_listener(HostPort("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60


def test_without_a_host_it_listens_at_every_address() -> None:
    with tcp_listener(HostPort("", 0)) as listener:
        port = listener.getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()
        if socket.has_dualstack_ipv6():
            socket.create_connection(("::1", port)).close()


def test_a_port_that_is_taken_is_named() -> None:
    with tcp_listener(HostPort("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(Unavailable, match=f"can't listen on 127.0.0.1:{port}: "):
            tcp_listener(HostPort("127.0.0.1", port))


def test_a_unix_socket_is_for_its_group_and_takes_the_place_of_an_old_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "agent.sock"
    for _ in range(2):
        with unix_listener(path, grp.getgrgid(os.getgid()).gr_name):
            assert path.stat().st_mode & 0o777 == 0o660
            assert path.stat().st_gid == os.getgid()
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
    assert list(path.parent.iterdir()) == [path]


def test_an_unknown_group_is_named(tmp_path: Path) -> None:
    with pytest.raises(SysregError, match="no-such-group"):
        unix_listener(tmp_path / "agent.sock", "no-such-group")
