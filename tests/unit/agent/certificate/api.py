"""Calls of the certificate API in this process, on a Host."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from starlette.applications import Starlette

from sysreg_cli.agent.certificate import api
from sysreg_cli.agent.certificate.transaction import CertificateChange
from sysreg_cli.agent.context import AgentContext
from sysreg_cli.agent.identity import CallerAuthenticator, Peer
from sysreg_cli.cli.agent_client import multipart
from tests.unit.agent.certificate.host import Host
from tests.unit.token_server import asgi


class Requested:
    """Stands for the private key of a request, which nobody but the agent has."""

    def __init__(self, csr: x509.CertificateSigningRequest) -> None:
        self.public_key = csr.public_key


def call(
    host: Host,
    method: str,
    path: str,
    fields: dict[str, str] | None = None,
    file: bytes = b"",
    *,
    query: str = "",
    now: datetime | None = None,
) -> Any:
    """The JSON of a response to root; None for a response without a body. ``now`` stops the agent's clock."""
    context = AgentContext(host.settings, CallerAuthenticator(host.settings.keystone))
    change = CertificateChange(host.settings, probe=host.services)
    app = Starlette(routes=api.routes(context, change, clock=lambda: now or datetime.now(UTC)))

    async def as_root(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": {"peer": Peer(1, 0, 0)}}, receive, send)

    headers: list[tuple[bytes, bytes]] = []
    body = b""
    if fields is not None:
        body, content_type = multipart(fields, file)
        headers.append((b"content-type", content_type.encode()))
    response = asyncio.run(
        asgi.call(as_root, method, path, query=query.encode(), headers=headers, body=[body])
    )
    return response.json() if response.body else None
