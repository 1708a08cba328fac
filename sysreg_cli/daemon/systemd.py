"""The protocols that a service speaks with systemd: sd_notify(3) and sd_listen_fds(3).

Each is a few lines, so they need neither the package sdnotify nor systemd's library.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

_FIRST_FD = 3


def notify(state: str, environ: MutableMapping[str, str] = os.environ) -> None:
    """Send ``state`` (``READY=1``, for example) to systemd, if NOTIFY_SOCKET is set. Never raises."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # abstract namespace
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.sendto(state.encode(), address)
    except OSError:
        return


def watchdog_interval(environ: MutableMapping[str, str] = os.environ) -> float:
    """Return the seconds between two ``WATCHDOG=1``: half of what systemd allows; 0 if it expects none."""
    usec = environ.get("WATCHDOG_USEC", "")
    if not usec.isdigit() or environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    return int(usec) / 2_000_000


def activated_sockets(environ: MutableMapping[str, str] = os.environ) -> list[socket.socket]:
    """Return the sockets of socket activation. Remove its variables, which are not for child processes."""
    count = environ.pop("LISTEN_FDS", "")
    pid = environ.pop("LISTEN_PID", "")
    environ.pop("LISTEN_FDNAMES", None)
    if not count.isdigit() or pid != str(os.getpid()):
        return []
    sockets = []
    for descriptor in range(_FIRST_FD, _FIRST_FD + int(count)):
        os.set_inheritable(descriptor, False)
        sockets.append(socket.socket(fileno=descriptor))
    return sockets
