"""What the live endpoints present and whether they work, asked as a client would, without Keystone."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from sysreg_cli.errors import SettingsError, SysregError, Unavailable
from sysreg_cli.settings import Settings
from sysreg_cli.tokens.signer import TokenSigner

_PAUSE = 0.05
#: seconds for one endpoint to connect, and between bytes
_ENDPOINT_SECONDS = 3.0
_TOKEN_SECONDS = 60


class WrongChain(Exception):
    """An endpoint is up and presents something else: waiting alone won't change that."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One TLS listener: where it is, and a path that answers 200 when it works."""

    name: str
    host: str
    port: int
    path: str
    needs_token: bool = False


def endpoints(settings: Settings, *, with_agent: bool) -> list[Endpoint]:
    """Every listener that presents the certificate: registry, token server, and the agent's own."""
    registry = urlsplit(settings.registry.base_url)
    if registry.scheme != "https":
        raise SettingsError("settings refused", ["url in section [registry] is not https"])
    found = [
        Endpoint(
            settings.registry.unit,
            registry.hostname or "",
            registry.port or 443,
            "/v2/",
            needs_token=True,
        ),
        Endpoint(
            settings.token_server.unit,
            settings.registry.host_names[0],
            settings.token_server.port,
            "/health",
        ),
    ]
    if with_agent and settings.agent.listen:
        listener = settings.agent.listen.reachable
        found.append(Endpoint("sysreg-agent", listener.host, listener.port, "/health"))
    return found


class Probe:
    """Checks that every endpoint presents exactly one chain, and works."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def wait(self, chain: Sequence[bytes], *, seconds: float, with_agent: bool, hasty: bool = False) -> None:
        """Return once every endpoint presents exactly ``chain`` (DER, server certificate first) and works.

        Asks again for ``seconds``; if ``hasty``, not after one that is up presented another chain. Raises
        Unavailable with what each endpoint did, SettingsError when no token can be signed.
        """
        signer = TokenSigner.load(self._settings)
        deadline = time.monotonic() + seconds
        while True:
            # a new token each round: a step of the clock must not spoil the rest
            token = signer.sign(
                "sysreg-agent", (), lifetime=_TOKEN_SECONDS, service=self._settings.registry.address
            )
            problems: list[str] = []
            wrong = False
            for endpoint in endpoints(self._settings, with_agent=with_agent):
                try:
                    _check(endpoint, chain, token)
                except WrongChain as error:
                    wrong = True
                    problems.append(f"{endpoint.name} at {endpoint.host}:{endpoint.port} {error}")
                except SysregError as error:
                    problems.append(f"{endpoint.name} at {endpoint.host}:{endpoint.port} {error}")
            if not problems:
                return
            if time.monotonic() >= deadline or (hasty and wrong):
                raise Unavailable("; ".join(problems))
            time.sleep(_PAUSE)


def _check(endpoint: Endpoint, chain: Sequence[bytes], token: str) -> None:
    """Raises WrongChain or Unavailable, whose texts go on behind the endpoint's name."""
    answer = ask(endpoint, token)
    if answer.chain != list(chain):
        raise WrongChain("presents another certificate")
    if answer.status != 200:
        raise Unavailable(f"answers GET {endpoint.path} with {answer.status}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint presented and said."""

    chain: list[bytes]
    status: int
    body: bytes


def ask(endpoint: Endpoint, token: str = "") -> Answer:
    """Ask an endpoint for its path, with ``token`` where it needs one; whatever certificate it presents.

    Raises Unavailable, whose text goes on behind the endpoint's name.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # what is compared is the whole chain, byte for byte; an old one may well be expired
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(
        endpoint.host, endpoint.port, timeout=_ENDPOINT_SECONDS, context=context
    )
    try:
        connection.connect()
        assert isinstance(connection.sock, ssl.SSLSocket)
        chain = presented(connection.sock)
        headers = {"Authorization": f"Bearer {token}"} if endpoint.needs_token else {}
        connection.request("GET", endpoint.path, headers=headers)
        answer = connection.getresponse()
        return Answer(chain, answer.status, answer.read())
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"does not answer ({_reason(error)})") from None
    finally:
        connection.close()


def presented(connection: ssl.SSLSocket) -> list[bytes]:
    """The certificates that the other side sent, DER, in its order."""
    if hasattr(connection, "get_unverified_chain"):  # Python 3.13
        return list(connection.get_unverified_chain())
    certificates = connection._sslobj.get_unverified_chain()  # type: ignore[attr-defined]
    return [ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in certificates or ()]


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {_ENDPOINT_SECONDS:g} s"
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
