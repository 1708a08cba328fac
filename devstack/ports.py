"""TCP ports: free ones for tests, and who listens on a port (proc(5): net/tcp, fd)."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

# Below Linux' range for outgoing connections (32768-60999): none takes a port between choice and bind.
_FIRST, _LAST = 20000, 32000
# Test processes side by side (pytest-xdist: gw0, gw1...) each have a slice of their own, and no process gives
# a port twice: one whose program is just not running looks free.
_SLICES = 16
_given: set[int] = set()
_LISTEN = "0A"


def free_ports(count: int) -> list[int]:
    """``count`` different ports on which nothing listens, on any address, and nothing of ours will."""
    number = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    size = (_LAST - _FIRST) // _SLICES
    first = _FIRST + (int(number) % (_SLICES - 1) if number.isdecimal() else _SLICES - 1) * size
    if len(_given) + count > size // 2:
        _given.clear()  # those of long ago
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


def listeners(port: int, net_of: int | str = "self") -> set[int]:
    """The process ids that listen on TCP ``port`` in the network namespace of process ``net_of``."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{net_of}/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(fields[9])
    return {pid for pid in process_ids() if inodes & _socket_inodes(pid)} if inodes else set()


def process_ids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def describe(pid: int) -> str:
    """``pid 4711 (python3 -m http.server)`` for messages."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return f"pid {pid}"
    return f"pid {pid} ({' '.join(words).strip()[:100]})"


def _socket_inodes(pid: int) -> set[str]:
    inodes = set()
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            target = str(entry.readlink())
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    except OSError:  # the process went away, or is not ours to look at
        pass
    return inodes
