"""The two small protocols of systemd that a service speaks: sd_notify(3) and sd_listen_fds(3)."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

_FIRST_FD = 3


def notify(state: str, environ: MutableMapping[str, str] = os.environ) -> None:
    """Tell systemd ``READY=1``, ``STOPPING=1`` or ``WATCHDOG=1``; nothing is done without NOTIFY_SOCKET.

    Never raises: a service doesn't fail because nobody listens to how it is.
    """
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
    """Seconds between two ``WATCHDOG=1`` (half of what systemd allows), 0 when it expects none."""
    usec = environ.get("WATCHDOG_USEC", "")
    if not usec.isdigit() or environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    return int(usec) / 2_000_000


def activated_sockets(environ: MutableMapping[str, str] = os.environ) -> list[socket.socket]:
    """The listening sockets of socket activation, none when started otherwise.

    The variables are removed, so that no child takes the sockets for its own.
    """
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
