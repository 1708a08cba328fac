from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.cli.certificates.odd_agents import PEM


def _is_bare(request: bytes) -> bool:
    """Whether ``request`` has ended and has no body."""
    return request.endswith(b"\r\n\r\n") and b"Content-Type" not in request


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Callable[[bytes], dict[str, str]]]:
    """``agent(answer)``: an agent that answers one request so; returns the environment to find it."""
    with contextlib.ExitStack() as stack:

        def start(answer: bytes, during: Callable[[], object] = lambda: None) -> dict[str, str]:
            path = tmp_path / "agent.sock"
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(path))
            listener.listen()

            def serve() -> None:
                with contextlib.suppress(OSError):
                    connection, _ = listener.accept()
                    with connection:
                        received = b""
                        while (
                            b"--\r\n" not in received[-8:]
                            and not _is_bare(received)
                            and (more := connection.recv(65536))
                        ):
                            received += more
                        during()
                        connection.sendall(answer)

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            # the thread must not go on to wait on the descriptor, which another listener gets
            stack.callback(thread.join, 10)
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
            return {"SYSREG_AGENT": str(path), "SYSREG_CONF": str(settings)}

        settings = tmp_path / "sysreg.conf"
        settings.touch()
        yield start


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "server.pem"
    path.write_bytes(PEM)
    return path


@pytest.fixture(autouse=True)
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root sends no token, so that no Keystone is needed."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
