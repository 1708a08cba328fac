"""New connections wait while a listener restarts, and the program goes on where that is impossible."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest

from sysreg_cli.host import connections


@pytest.fixture
def nft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The calls of nft, one a line; a program that only writes them down stands for it."""
    calls = tmp_path / "calls"
    program = tmp_path / "nft"
    program.write_text(f'#!/bin/sh\necho "$1" >>{calls}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return calls


def test_connections_are_held_until_something_listens_again(nft: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with connections.held(port):
            assert f"{{ {port} timeout" in nft.read_text()
    assert nft.read_text().splitlines()[-1] == "delete table inet sysreg"


def test_they_are_admitted_if_the_restart_fails_and_the_listener_is_still_there(nft: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(OSError, match="no restart"), connections.held(port):
            raise OSError("no restart")
    assert nft.read_text().splitlines()[-1] == "delete table inet sysreg"


def test_they_wait_for_another_try_if_the_restart_fails_and_nothing_listens(nft: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(OSError, match="no restart"), connections.held(port):
        raise OSError("no restart")
    (held,) = nft.read_text().splitlines()
    assert held == connections.hold_rules(port, connections.HOLD_SECONDS)


def test_without_nftables_the_restart_happens_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with caplog.at_level(logging.INFO), connections.held(1):
        pass
    assert "connections may be refused for a moment: nftables" in caplog.text
