"""TCP ports: free ones for tests, and which processes listen on a port."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterable

import psutil

# Below Linux' range for outgoing connections (32768-60999), so none of them takes a port before its program.
_FIRST, _LAST = 20000, 32000
# Each of several test processes (pytest-xdist: gw0, gw1...) has a slice of its own. No process gives a port
# twice, because a port looks free while its program is stopped.
_SLICES = 16
_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """``count`` different ports on which nothing listens, and that no other test will get."""
    number = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    size = (_LAST - _FIRST) // _SLICES
    first = _FIRST + (int(number) % (_SLICES - 1) if number.isdecimal() else _SLICES - 1) * size
    if len(_given) + count > size // 2:
        _given.clear()  # most programs on them have ended by now
    chosen: list[int] = []
    while len(chosen) < count:
        port = random.randrange(first, first + size)
        if port in _given or port in chosen:
            continue
        with socket.socket(socket.AF_INET6) as probe:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            try:
                probe.bind(("::", port))
            except OSError:
                continue
        _given.add(port)
        chosen.append(port)
    return chosen


def free_pair() -> int:
    """A free port whose next one is free, too."""
    while True:
        for port in free_ports(20):
            if not listeners([port, port + 1]):
                return port


def listeners(wanted: Iterable[int]) -> dict[int, set[int]]:
    """Port -> ids of the processes that listen on it, for those of the TCP ports that are taken."""
    wanted = set(wanted)
    found: dict[int, set[int]] = {}
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.pid:
            found.setdefault(connection.laddr.port, set()).add(connection.pid)
    return {port: pids for port, pids in found.items() if port in wanted}


def describe(pid: int) -> str:
    """``pid 4711 (python3 -m http.server)`` for messages."""
    try:
        return f"pid {pid} ({' '.join(psutil.Process(pid).cmdline())[:100]})"
    except psutil.Error:
        return f"pid {pid}"
