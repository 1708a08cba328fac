"""Checks what the live services present and whether they work, as a client sees it. Needs no Keystone.

It uses http.client because it compares the chain of each connection byte for byte, which an HTTP library does
not show.
"""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sysreg_cli.addresses import HostPort
from sysreg_cli.errors import SettingsError, Unavailable
from sysreg_cli.settings import Settings
from sysreg_cli.tokens.signer import TokenSigner
from sysreg_cli.tokens.times import wrong_clock

_PAUSE_SECONDS = 0.05
#: to connect to an endpoint, and between bytes
_TIMEOUT = 3.0
_TOKEN_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A TLS listener. A GET of ``path`` answers 200 if the service works."""

    name: str
    address: HostPort
    path: str
    needs_token: bool = False


@dataclass(frozen=True, slots=True)
class Response:
    """What an endpoint presented, as DER, and how it responded."""

    chain: list[bytes]
    status: int
    body: bytes
    headers: http.client.HTTPMessage = field(default_factory=http.client.HTTPMessage)
    #: when it arrived, in seconds of this host's clock
    received: float = field(default_factory=time.time)

    @property
    def date(self) -> str:
        """The header Date, which shows the clock of the service, "" without it."""
        return self.headers.get("Date", "")


class NoResponse(Unavailable):
    """An endpoint gives no usable response. ``cause`` is what the connection raised."""

    def __init__(self, message: str, cause: Exception) -> None:
        super().__init__(message)
        self.cause = cause


def endpoints(settings: Settings, *, with_agent: bool) -> list[Endpoint]:
    """Return registry, token server and, ``with_agent``, the agent's TLS listener if there is one."""
    registry = urlsplit(settings.registry.base_url)
    if registry.scheme != "https":
        raise SettingsError("settings refused", ["url in section [registry] is not https"])
    registry_address = HostPort(registry.hostname or "", registry.port or 443)
    token_server_address = HostPort(settings.registry.host_names[0], settings.token_server.port)
    result = [
        Endpoint(settings.registry.unit, registry_address, "/v2/", needs_token=True),
        Endpoint(settings.token_server.unit, token_server_address, "/health"),
    ]
    if with_agent and settings.agent.listen:
        result.append(Endpoint("sysreg-agent", settings.agent.listen.reachable, "/health"))
    return result


class Probe:
    """Checks that each endpoint presents exactly one chain, and works. See ``endpoints``."""

    def __init__(self, settings: Settings, *, with_agent: bool) -> None:
        self._settings = settings
        self._with_agent = with_agent

    def wait(
        self, certificates: Sequence[x509.Certificate], *, seconds: float, fail_fast: bool = False
    ) -> None:
        """Wait until each endpoint presents the chain ``certificates``, and works.

        Raises Unavailable after ``seconds``, or with ``fail_fast`` as soon as an endpoint presents another
        chain. The message says what is wrong with each endpoint. Raises SettingsError if no token can be
        signed.
        """
        chain = [certificate.public_bytes(Encoding.DER) for certificate in certificates]
        signer = TokenSigner.load(self._settings)
        deadline = time.monotonic() + seconds
        while True:
            # a new token for each round, because the clock may be set meanwhile
            token = signer.sign(
                "sysreg-agent", (), lifetime=_TOKEN_SECONDS, service=self._settings.registry.address
            )
            problems = []
            other_chain = False
            for endpoint in endpoints(self._settings, with_agent=self._with_agent):
                try:
                    response = request(endpoint, token)
                except Unavailable as error:
                    problems.append(str(error))
                    continue
                if response.chain != chain:
                    other_chain = True
                    problems.append(f"{_label(endpoint)} presents another certificate")
                elif response.status != 200:
                    clock = wrong_clock(token, response.date) if response.status == 401 else ""
                    problem = f"{_label(endpoint)} answers GET {endpoint.path} with {response.status}"
                    problems.append(f"{problem}: {clock}" if clock else problem)
            if not problems:
                return
            if time.monotonic() >= deadline or (fail_fast and other_chain):
                raise Unavailable("; ".join(problems))
            time.sleep(_PAUSE_SECONDS)


def request(endpoint: Endpoint, token: str = "") -> Response:
    """GET an endpoint's path, whatever certificate it presents. Raises NoResponse."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The caller compares the chain. An old certificate may have expired.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    address = endpoint.address
    connection = http.client.HTTPSConnection(address.host, address.port, timeout=_TIMEOUT, context=context)
    try:
        connection.connect()
        assert isinstance(connection.sock, ssl.SSLSocket)
        chain = _presented_chain(connection.sock)
        headers = {"Authorization": f"Bearer {token}"} if endpoint.needs_token else {}
        connection.request("GET", endpoint.path, headers=headers)
        response = connection.getresponse()
        return Response(chain, response.status, response.read(), response.headers)
    except TimeoutError as error:
        message = f"{_label(endpoint)} does not answer within {_TIMEOUT:g} s"
        raise NoResponse(message, error) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise NoResponse(f"{_label(endpoint)} does not answer ({reason})", error) from None
    finally:
        connection.close()


def _label(endpoint: Endpoint) -> str:
    return f"{endpoint.name} at {endpoint.address}"


def _presented_chain(connection: ssl.SSLSocket) -> list[bytes]:
    """Return the certificates that the server sent, as DER."""
    if hasattr(connection, "get_unverified_chain"):  # Python 3.13
        return list(connection.get_unverified_chain())
    certificates = connection._sslobj.get_unverified_chain()  # type: ignore[attr-defined]
    return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in certificates or ()]
