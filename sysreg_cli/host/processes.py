"""Which processes of this host listen at a port, or hold a lock: proc(5). Root sees all of them.

A process that ends while it is looked at is left out.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_UNIT = re.compile(r"[A-Za-z0-9:_.@\\-]+\.service")
_LISTEN = "0A"  # the state of a socket in /proc/net/tcp


@dataclass(frozen=True, slots=True)
class Process:
    """A process, and the user whose rights it has.

    ``unit`` is the service of systemd that it belongs to, "" if it belongs to none.
    """

    pid: int
    name: str
    uid: int
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid}{f', {self.unit}' if self.unit else ''})"


def unit_of(process: Path) -> str:
    """Return the unit in whose control group a process is; "" if it is in none. Raises OSError."""
    group = (process / "cgroup").read_text().strip().splitlines()[-1:]
    name = group[0].rpartition("/")[2] if group else ""
    return name if _UNIT.fullmatch(name) else ""


def listening(port: int, proc: Path = _PROC) -> list[Process]:
    """Return the processes that listen at a TCP port of any address."""
    sockets = {f"socket:[{inode}]" for inode in _sockets(port, proc)}
    return _having(lambda descriptor: _target(descriptor) in sockets, proc) if sockets else []


def locking(path: Path, proc: Path = _PROC) -> list[Process]:
    """Return the processes that hold an exclusive flock(2) on a file, also by an inherited descriptor."""

    def holds(descriptor: Path) -> bool:
        if _target(descriptor) != str(path):
            return False
        information = (descriptor.parent.parent / "fdinfo" / descriptor.name).read_text()
        return re.search(r"^lock:.*FLOCK\s+ADVISORY\s+WRITE", information, re.MULTILINE) is not None

    return _having(holds, proc)


def _sockets(port: int, proc: Path) -> Iterator[str]:
    """Yield the inodes of the sockets that listen at ``port``."""
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
            for line in (proc / "self/net" / name).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]


def _having(is_it: Callable[[Path], bool], proc: Path) -> list[Process]:
    """Return the processes with an open file of which ``is_it`` is true, by their pids."""
    found = []
    for process in sorted(proc.glob("[0-9]*"), key=lambda path: int(path.name)):
        with contextlib.suppress(OSError):
            if any(is_it(descriptor) for descriptor in (process / "fd").iterdir()):
                name = (process / "comm").read_text().strip()
                uid = process.stat().st_uid
                found.append(Process(int(process.name), name, uid, unit_of(process)))
    return found


def _target(descriptor: Path) -> str:
    """Return what an open file is, "" if it has been closed."""
    try:
        return os.readlink(descriptor)  # noqa: PTH115
    except FileNotFoundError:
        return ""
