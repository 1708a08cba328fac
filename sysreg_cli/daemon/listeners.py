"""Sockets that listen."""

from __future__ import annotations

import grp
import os
import socket
from pathlib import Path

from sysreg_cli.addresses import HostPort
from sysreg_cli.errors import SysregError, Unavailable

BACKLOG = 1024
# The kernel ends a connection 2.5 minutes after its peer vanished or stopped reading; its default is 2 hours.
_DEAD_SECONDS = 150
_KEEPALIVE = {
    socket.TCP_KEEPIDLE: 60,
    socket.TCP_KEEPINTVL: 15,
    socket.TCP_KEEPCNT: 6,
    socket.TCP_USER_TIMEOUT: _DEAD_SECONDS * 1000,
}


def tcp_listener(address: HostPort) -> socket.socket:
    """Listen at ``address``; without a host at every address. Raises Unavailable."""
    dual_stack = not address.host and socket.has_dualstack_ipv6()
    try:
        listener = socket.create_server(
            (address.host, address.port),
            family=socket.AF_INET6 if ":" in address.host or dual_stack else socket.AF_INET,
            dualstack_ipv6=dual_stack,
            backlog=BACKLOG,
        )
    except OSError as error:
        raise Unavailable(f"can't listen on {address.host or '*'}:{address.port}: {error.strerror}") from None
    # Linux passes these options on to each accepted connection
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE.items():
        listener.setsockopt(socket.IPPROTO_TCP, option, value)
    return listener


def unix_listener(path: Path, group: str) -> socket.socket:
    """Listen on a unix socket that only root and ``group`` can connect to, from its first moment on.

    Raises SysregError if the group doesn't exist, OSError if the path can't be used.
    """
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError:
        raise SysregError(
            f"the unix group {group} (group in section [agent]) does not exist", next_step="run sysreg-deploy"
        ) from None
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    # bound under another name, so that nobody can reach it before owner and mode are right
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.bind(str(temporary))
        os.chown(temporary, os.geteuid(), gid)
        temporary.chmod(0o660)
        listener.listen(BACKLOG)
        temporary.rename(path)
    except OSError:
        listener.close()
        temporary.unlink(missing_ok=True)
        raise
    return listener
