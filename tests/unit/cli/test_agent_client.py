"""Calls of the agent on one connection."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sysreg_cli.cli.agent_client import AgentClient
from sysreg_cli.v1.unix_socket import UnixHTTPConnection

_BODY = b'{"tags": {"v1": ""}}'
_RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)


@pytest.fixture
def requests(tmp_path: Path) -> Iterator[list[bytes]]:
    """The requests to an agent that closes each connection after a response, without a warning."""
    received: list[bytes] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    received.append(connection.recv(65536))
                    connection.sendall(_RESPONSE)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        yield received
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_connection_that_the_agent_closed_meanwhile_is_opened_again(
    requests: list[bytes], tmp_path: Path
) -> None:
    """A delete of many tags takes longer than the agent keeps an idle connection."""
    connection = UnixHTTPConnection(tmp_path / "s", timeout=30)
    agent = AgentClient(connection, "agent", timeout=30, token=None)
    for _ in range(3):
        assert agent.stored_tags("app", "a-registry-token").tags == {"v1": ""}
        # the agent has closed it when there is an end to read
        assert connection.sock.recv(1, socket.MSG_PEEK) == b""
    assert len(requests) == 3
    assert all(b"Authorization: Bearer a-registry-token\r\n" in request for request in requests)
    assert not any(b"X-Auth-Token" in request for request in requests)
