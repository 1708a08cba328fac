"""Calling an ASGI app in a test, and the parts of a token server around a Keystone that a test invents."""

from __future__ import annotations

import asyncio
import base64
import datetime
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sysreg_cli.settings import Settings
from sysreg_cli.token_server.app import TokenApp
from sysreg_cli.token_server.authenticator import Authenticator
from sysreg_cli.token_server.credential_cache import CredentialCache, Fingerprints
from sysreg_cli.token_server.credentials import Credentials
from sysreg_cli.token_server.decision_log import DecisionLog
from sysreg_cli.token_server.issuer import Issuer
from sysreg_cli.token_server.keystone import Authentication
from sysreg_cli.token_server.lockout_guard import LockoutGuard
from sysreg_cli.tokens.signer import TokenSigner
from sysreg_cli.tokens.write_lock import WriteLock


@dataclass
class Response:
    """What the app answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def access(self) -> list[str]:
        """What the token in it allows, as type:name:action,action."""
        payload = self.json()["token"].split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
        return [f"{entry['type']}:{entry['name']}:{','.join(entry['actions'])}" for entry in claims["access"]]

    def claims(self) -> dict[str, Any]:
        payload = self.json()["token"].split(".")[1]
        claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=="))
        return claims


async def call(
    app: Any,
    method: str = "GET",
    path: str = "/token/",
    query: bytes = b"",
    headers: Sequence[tuple[bytes, bytes]] = (),
    body: Sequence[bytes] = (),
    leave: asyncio.Event | None = None,
    client: str = "192.0.2.1",
) -> Response:
    """One request to ``app`` from the address ``client``.

    The client leaves when ``leave`` is set, or after the answer.
    """
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in body]
    messages.append({"type": "http.request", "body": b"", "more_body": False})
    sent: list[Any] = []

    async def receive() -> Any:
        if messages:
            return messages.pop(0)
        await (leave or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "headers": list(headers),
        "client": (client, 5000),
        "server": ("192.0.2.2", 9002),
    }
    await app(scope, receive, send)
    start = sent[0]
    return Response(
        start["status"],
        {name.decode().lower(): value.decode() for name, value in start["headers"]},
        b"".join(message.get("body", b"") for message in sent[1:]),
    )


def basic(user: str, password: str = "right") -> tuple[bytes, bytes]:
    return b"authorization", b"Basic " + base64.b64encode(f"{user}:{password}".encode())


class StandInKeystone:
    """Answers what a test tells it to, and counts."""

    def __init__(self, answer: Callable[[Credentials], Authentication]) -> None:
        self.answer = answer
        self.asked: list[Credentials] = []

    def authenticate(self, credentials: Credentials) -> Authentication:
        self.asked.append(credentials)
        return self.answer(credentials)


class Server:
    """A token server without a network: the real parts around a stand-in for Keystone."""

    def __init__(
        self,
        state: Path,
        answer: Callable[[Credentials], Authentication],
        *,
        cache_ttl: float = 300.0,
        keystone_wait: float = 13.0,
        docker_wait: float = 12.0,
        other_wait: float = 300.0,
    ) -> None:
        settings = Settings()
        self.keystone = StandInKeystone(answer)
        self.authenticator = Authenticator(
            self.keystone,
            Fingerprints(state),
            CredentialCache(cache_ttl),
            LockoutGuard(state / "refused.db"),
            max_wait=keystone_wait,
        )
        self.issuer = Issuer(settings, self.authenticator, signer(), WriteLock(state))
        self.log = io.BytesIO()
        self.decisions = DecisionLog(self.log)
        self.app = TokenApp(
            self.issuer,
            settings.registry.address,
            self.decisions,
            docker_wait=docker_wait,
            other_wait=other_wait,
        )

    async def get(self, query: str = "", *headers: tuple[bytes, bytes], **options: Any) -> Response:
        return await call(self.app, query=query.encode("latin-1"), headers=headers, **options)


def signer() -> TokenSigner:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "signer")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    ).sign(key, hashes.SHA256())
    return TokenSigner(key, [certificate], "sysreg-token-server")
