"""The check of the live services after a deployment."""

from __future__ import annotations

import contextlib
import http.client
import time
from pathlib import Path

from sysreg_cli.errors import Unavailable
from sysreg_cli.host.generations import Generations
from sysreg_cli.host.probe import Probe
from sysreg_cli.settings import Settings
from sysreg_cli.v1.unix_socket import UnixHTTPConnection

_SECONDS = 20.0


def verify(settings: Settings) -> None:
    """Return when registry, token server and agent serve. Raises Unavailable with what is wrong with each.

    Registry and token server have to present the certificate in use, and the registry has to accept a token
    signed with the key in use. The agent has to answer on its socket. This needs no Keystone.
    """
    generations = Generations(settings.certificate.directory)
    name = generations.current()
    if name is None:
        raise Unavailable("no certificate is in use", next_step="run sysreg-deploy")
    Probe(settings, with_agent=True).wait(generations.certificates(name), seconds=_SECONDS)
    _wait_for_agent(settings.agent.socket)


def _wait_for_agent(path: Path) -> None:
    deadline = time.monotonic() + _SECONDS
    while problem := _agent_problem(path):
        if time.monotonic() > deadline:
            raise Unavailable(
                f"the agent at {path} {problem}", next_step="see journalctl -u sysreg-agent.service"
            )
        time.sleep(0.05)


def _agent_problem(path: Path) -> str:
    """What is wrong with the agent's answer, empty if it is healthy."""
    try:
        with contextlib.closing(UnixHTTPConnection(path, timeout=5)) as connection:
            connection.request("GET", "/health")
            status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"does not answer ({error})"
    return "" if status == 200 else f"answers GET /health with {status}"
