"""Answers of an agent, and the call that gets them."""

from __future__ import annotations

import json

from sysreg_cli.cli.invocation import Invocation
from sysreg_cli.cli.main import run
from tests.certificates import authority, bundle, server

ROOT = authority()
LEAF = server(ROOT)
PEM = bundle(LEAF, ROOT)
INSTALLED = {
    "uuid": "0a1b",
    "certtype": "docker_registry",
    "signature": f"docker_registry_{LEAF.certificate.serial_number}",
    "start_date": "2026-01-01 00:00:00+00:00",
    "expiry_date": "2027-01-01 00:00:00+00:00",
    "subject": "CN=server",
}
SUCCESS = {"success": "", "error": "", "body": "", "certificates": [INSTALLED]}


def http(body: object, status: str = "200 OK") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(data), data)


def fault(text: str) -> dict[str, str]:
    return {"error_message": json.dumps({"faultstring": text, "faultcode": "Client", "debuginfo": None})}


def install(environ: dict[str, str], *words: object) -> int:
    arguments = ["certificate-install", "-m", "docker_registry", *map(str, words)]
    return run(arguments, Invocation(environ=environ))
