"""The connection to the agent: where it is, who calls there, and why there is no response."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sysreg_cli.cli import global_options
from sysreg_cli.errors import NotAuthorized, SysregError, Unavailable, UsageError
from sysreg_cli.text import shorten
from sysreg_cli.v1.unix_socket import UnixHTTPConnection

if TYPE_CHECKING:
    from sysreg_cli.cli.invocation import Invocation


def place(invocation: Invocation) -> str:
    """Return the path of the agent's socket, or its URL."""
    return invocation.text(global_options.AGENT) or str(invocation.settings.agent.socket)


def is_peer(invocation: Invocation) -> bool:
    """Whether the agent knows this process as root's: it is, and the command line names no credentials."""
    return place(invocation).startswith("/") and os.geteuid() == 0 and not invocation.has_credential_options()


def connect(where: str, invocation: Invocation) -> http.client.HTTPConnection:
    """Return a connection to a socket or an https URL. Raises UsageError for another text."""
    if where.startswith("/"):
        return UnixHTTPConnection(where, timeout=invocation.timeout)
    from sysreg_cli.registry.trust import client_context

    try:
        url = urlsplit(where if where.isascii() else "")
        if url.scheme == "https" and url.hostname and url.path in ("", "/"):
            # the agent presents the registry's certificate, so it is trusted like the registry
            settings = invocation.settings
            directory = settings.paths.docker_trust / settings.registry.address
            context = client_context(invocation.text(global_options.REGISTRY_CA), directory)
            port = url.port or 443
            return http.client.HTTPSConnection(
                url.hostname, port, timeout=invocation.timeout, context=context
            )
    except (ValueError, http.client.InvalidURL):
        pass
    raise UsageError(f"--agent: {shorten(where)} is neither the path of a socket nor an https URL")


def explain(error: Exception, where: str, timeout: float) -> SysregError:
    """Return the error for the caller when there is no response."""
    agent = f"the agent at {where}"
    reason = getattr(error, "strerror", "") or type(error).__name__
    match error:
        case PermissionError():
            return NotAuthorized(
                f"you may not connect to the agent's socket {where}",
                next_step=f"it needs root or a member of the unix group {_group_of(where)}",
            )
        case FileNotFoundError() | ConnectionRefusedError() | socket.gaierror():
            return Unavailable(
                f"no agent answers at {where} ({reason})",
                next_step="start it: systemctl start sysreg-agent",
            )
        case ssl.SSLError():
            reason = getattr(error, "verify_message", "") or reason
            return Unavailable(
                f"{agent}: its certificate is not trusted ({reason})",
                next_step="give the CA with --registry-ca",
            )
        case TimeoutError():
            problem = f"gave no answer within {timeout:g} s"
        case _:
            problem = f"broke off the connection ({reason})"
    return Unavailable(f"{agent} {problem}", next_step="see `journalctl -u sysreg-agent`")


def _group_of(path: str) -> str:
    try:
        return Path(path).group()
    except (OSError, KeyError):
        return "sysreg"
