"""registry.local must resolve: a line in /etc/hosts."""

from __future__ import annotations

import socket
from pathlib import Path

from devstack.endpoints import HOST_NAME
from devstack.errors import DevstackError

_HOSTS = Path("/etc/hosts")


def make_resolvable() -> bool:
    """See that registry.local is 127.0.0.1; add it to /etc/hosts if it has no address. True if it was added.

    Raises DevstackError if it has another address: the line may be somebody's real controller.
    """
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(HOST_NAME, None, socket.AF_INET)}
    except socket.gaierror:
        text = _HOSTS.read_text()
        with _HOSTS.open("a") as file:
            file.write(("" if text.endswith("\n") or not text else "\n") + f"127.0.0.1 {HOST_NAME}\n")
        return True
    if found != {"127.0.0.1"}:
        raise DevstackError(
            f"{HOST_NAME} resolves to {', '.join(sorted(found))}, not to 127.0.0.1: look for it in /etc/hosts"
        )
    return False
