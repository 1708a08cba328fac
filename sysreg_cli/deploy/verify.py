"""The check of the live service after a deployment: what every endpoint presents, and that it works."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from sysreg_cli.errors import Unavailable
from sysreg_cli.host.generations import Generations
from sysreg_cli.host.probe import Probe
from sysreg_cli.pki.check import read_certificates
from sysreg_cli.settings import Settings

_SECONDS = 20.0


def verify(settings: Settings) -> None:
    """Return when registry, token server and agent serve. Raises Unavailable with what each of them did.

    Registry and token server present the certificate in use; the registry accepts a token signed with the
    key in use; the agent answers on its socket. It needs no Keystone.
    """
    generations = Generations(settings.certificate.directory)
    name = generations.current()
    if name is None:
        raise Unavailable("no certificate is in use", next_step="run sysreg-deploy")
    chain = [
        ssl.PEM_cert_to_DER_cert(one.public_bytes(Encoding.PEM).decode())
        for one in read_certificates(generations.chain(name))
    ]
    Probe(settings).wait(chain, seconds=_SECONDS, with_agent=True)
    _wait_for_agent(settings.agent.socket)


def _wait_for_agent(path: Path) -> None:
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            connection = http.client.HTTPConnection("localhost", timeout=5)
            connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.sock.settimeout(5)
            connection.sock.connect(str(path))
            connection.request("GET", "/health")
            status = connection.getresponse().status
            problem = f"answers GET /health with {status}"
            if status == 200:
                return
        except (OSError, http.client.HTTPException) as error:
            problem = f"does not answer ({error})"
        finally:
            connection.close()
        if time.monotonic() > deadline:
            raise Unavailable(
                f"the agent at {path} {problem}", next_step="see journalctl -u sysreg-agent.service"
            )
        time.sleep(0.05)
