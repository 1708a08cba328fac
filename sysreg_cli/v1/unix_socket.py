"""HTTP to the agent over its unix socket."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path


def connect(path: str | Path, timeout: float | None) -> socket.socket:
    """Connect to a unix socket. ``timeout`` is in seconds and stays in force. Raises OSError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.connect(str(path))
    except OSError:
        connection.close()
        raise
    return connection


class UnixHTTPConnection(http.client.HTTPConnection):
    """A connection of the standard library's HTTP client to a unix socket."""

    def __init__(self, path: str | Path, *, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = connect(self._path, self.timeout)
