"""Registry tokens from the token server that the registry's challenge names (distribution token spec)."""

from __future__ import annotations

import ssl
import time
from collections.abc import Collection, Sequence
from typing import Protocol
from urllib.parse import SplitResult, urlencode, urlsplit

from sysreg_cli.addresses import HostPort
from sysreg_cli.errors import NotAuthenticated, ProtocolError, SysregError, TooManyRequests, Unavailable
from sysreg_cli.registry.challenge import Challenge
from sysreg_cli.registry.credentials import RegistryCredentials
from sysreg_cli.registry.transport import TRANSIENT, Response, Transport
from sysreg_cli.text import shorten
from sysreg_cli.tokens.access import Access

# Seconds that a token without a lifetime is valid (distribution token specification).
_DEFAULT_LIFETIME = 60
# however long a token server says: it is fetched anew after a day
_MAX_LIFETIME = 86400.0
# Seconds subtracted, so that a token does not expire on its way.
_MARGIN = 5


class Authorizer(Protocol):
    """Gets bearer tokens. The agent has one that signs its own."""

    def token(self, challenge: Challenge, access: Sequence[Access], *, fresh: bool = False) -> str:
        """Return a token for all of ``access``. ``fresh``: the registry refused the last one as invalid."""
        ...


class TokenServerAuthorizer:
    """Gets tokens from the challenge's realm, and reuses each while it is valid. Several threads may use it.

    ``write_wait`` is the timeout in seconds of a request for a write token: the token server holds it while a
    garbage collection runs, instead of refusing it. ``servers`` are the only token servers (host:port) that
    get the credentials; if it is empty, any does.
    """

    def __init__(
        self,
        credentials: RegistryCredentials,
        context: ssl.SSLContext,
        *,
        timeout: float,
        write_wait: float,
        servers: Collection[str] = (),
    ) -> None:
        self._credentials = credentials
        self._context = context
        self._timeout = timeout
        self._write_wait = write_wait
        self._allowed = servers
        self._servers: dict[str, Transport] = {}
        self._tokens: dict[tuple[Access, ...], tuple[str, float]] = {}

    def token(self, challenge: Challenge, access: Sequence[Access], *, fresh: bool = False) -> str:
        """Raises NotAuthenticated, TooManyRequests, Unavailable, and ProtocolError for a realm of others."""
        key = tuple(access)
        cached = self._tokens.get(key)
        if cached and not fresh and time.monotonic() < cached[1]:
            return cached[0]
        requested = time.monotonic()
        token, lifetime = self._fetch(challenge, key)
        self._tokens[key] = (token, requested + lifetime - _MARGIN)
        return token

    def _fetch(self, challenge: Challenge, access: tuple[Access, ...]) -> tuple[str, float]:
        """Return a token and its lifetime in seconds."""
        realm = _split_realm(challenge.realm)
        address = str(HostPort(realm.hostname or "", realm.port or 443))
        if self._allowed and address not in self._allowed:
            raise ProtocolError(
                f"the registry names {shorten(address)} as its token server, and sysreg.conf"
                f" {' or '.join(self._allowed)}",
                next_step="no password was sent; find out who changed auth.token.realm of the registry, or"
                " correct host_names and the port of the token server in sysreg.conf",
            )
        server = self._servers.setdefault(
            realm.netloc,
            Transport(challenge.realm, self._context, timeout=self._timeout, role="token server"),
        )
        query = urlencode([("service", challenge.service), *(("scope", str(entry)) for entry in access)])
        writes = any(entry.writes for entry in access)
        response = server.request(
            "GET",
            f"{realm.path or '/'}?{realm.query + '&' if realm.query else ''}{query}",
            headers=self._credentials.headers(),
            timeout=self._write_wait if writes else None,
            # A 503 may come after minutes in which the token server held the request. The user waits.
            retry_on=TRANSIENT - {503} if writes else TRANSIENT,
        )
        if response.status != 200:
            raise self._refusal(response)
        return _read_token(response)

    def _refusal(self, response: Response) -> SysregError:
        user = self._credentials.name or "the token's user"
        where, status, error = response.where, response.status, response.error
        if status == 401:
            reason = f"the credentials of {user} were refused{error.suffix}"
            if error.code == "UNAUTHORIZED" and error.message:
                reason = error.message
            return NotAuthenticated(f"{where}: {reason}", next_step="check the openrc that was sourced")
        if error.code == "UNAVAILABLE":
            return Unavailable(f"{where}: {error.message}")
        if status == 403:
            return NotAuthenticated(f"{where}: {user} may not log in{error.suffix}")
        if status == 429:
            return TooManyRequests(f"{where}: too many requests{error.suffix}", next_step="try again later")
        if status >= 500:
            return Unavailable(f"{where}: answered {status}{error.suffix}", next_step="try again later")
        return ProtocolError(f"{where}: answered {status}{error.suffix}")


def _split_realm(realm: str) -> SplitResult:
    """Split the URL of a token server. Raises ProtocolError unless it is a plain https URL."""
    try:
        parts = urlsplit(realm)
        usable = parts.scheme == "https" and parts.hostname and parts.port != 0 and "@" not in parts.netloc
        if usable and realm.isascii() and " " not in realm:
            return parts
    except ValueError:
        pass
    raise ProtocolError(
        f"the registry names {shorten(realm)} as its token server, which is not an https URL",
        next_step="no password was sent; check auth.token.realm of the registry",
    )


def _read_token(response: Response) -> tuple[str, float]:
    data = response.json()
    token = (data.get("token") or data.get("access_token")) if isinstance(data, dict) else None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise ProtocolError(f"{response.where}: the answer holds no token")
    lifetime = data.get("expires_in")
    if not isinstance(lifetime, (int, float)) or isinstance(lifetime, bool) or lifetime < _DEFAULT_LIFETIME:
        lifetime = _DEFAULT_LIFETIME
    return token, min(lifetime, _MAX_LIFETIME)
