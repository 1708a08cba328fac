"""Registry tokens from the token server that the registry's challenge names (distribution token spec)."""

from __future__ import annotations

import ssl
import time
from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlencode, urlsplit

from sysreg_cli.errors import (
    NotAuthenticated,
    ProtocolError,
    SysregError,
    TooManyRequests,
    Unavailable,
)
from sysreg_cli.reference import shorten
from sysreg_cli.registry.challenge import Challenge
from sysreg_cli.registry.credentials import Credentials
from sysreg_cli.registry.transport import PASSING, Answer, Transport

# A token that names no lifetime is good for 60 s (distribution token specification).
_DEFAULT_LIFETIME = 60
# Taken off, so that a token doesn't expire on its way.
_MARGIN = 5


class Authorizer(Protocol):
    """Gives the bearer token for scopes; the agent has one that signs its own."""

    def token(self, challenge: Challenge, scopes: Sequence[str], *, fresh: bool = False) -> str:
        """A token for ``scopes``; ``fresh`` if the one given last was refused as invalid."""
        ...


class TokenServerAuthorizer:
    """Asks the challenge's realm, and keeps each token for as long as it is good. Safe for threads.

    ``write_wait``: seconds that a request for a write token may stay unanswered; the token server holds it
    while a garbage collection runs, instead of refusing it.
    """

    def __init__(
        self, credentials: Credentials, context: ssl.SSLContext, *, timeout: float, write_wait: float
    ) -> None:
        self._credentials = credentials
        self._context = context
        self._timeout = timeout
        self._write_wait = write_wait
        self._servers: dict[str, Transport] = {}
        self._tokens: dict[tuple[str, ...], tuple[str, float]] = {}

    def token(self, challenge: Challenge, scopes: Sequence[str], *, fresh: bool = False) -> str:
        """Raises NotAuthenticated, TooManyRequests, Unavailable, ProtocolError (a realm without https)."""
        key = tuple(scopes)
        known = self._tokens.get(key)
        if known and not fresh and time.monotonic() < known[1]:
            return known[0]
        asked = time.monotonic()
        token, lifetime = self._ask(challenge, key)
        self._tokens[key] = (token, asked + lifetime - _MARGIN)
        return token

    def _ask(self, challenge: Challenge, scopes: tuple[str, ...]) -> tuple[str, float]:
        try:
            realm = urlsplit(challenge.realm)
            usable = (
                realm.scheme == "https" and realm.hostname and realm.port != 0 and "@" not in realm.netloc
            )
            usable = usable and challenge.realm.isascii() and " " not in challenge.realm
        except ValueError:
            usable = False
        if not usable:
            raise ProtocolError(
                f"the registry sends us for a token to {shorten(challenge.realm)}, which is not an https URL",
                next_step="no password was sent; check auth.token.realm of the registry",
            )
        server = self._servers.setdefault(
            realm.netloc, Transport(challenge.realm, self._context, timeout=self._timeout)
        )
        query = urlencode([("service", challenge.service), *(("scope", scope) for scope in scopes)])
        writes = any(action in scope.rpartition(":")[2] for scope in scopes for action in ("push", "delete"))
        try:
            answer = server.request(
                "GET",
                f"{realm.path or '/'}?{realm.query + '&' if realm.query else ''}{query}",
                headers=self._credentials.headers(),
                timeout=self._write_wait if writes else None,
                # The token server has held it for minutes before it says 503: to ask again only adds silence.
                passing=PASSING - {503} if writes else PASSING,
            )
        except Unavailable as error:
            # Nobody has typed this address.
            error.message = error.message.replace(server.where, f"{server.where} (token server)", 1)
            raise
        if answer.status != 200:
            raise self._refusal(answer)
        return _read_token(answer)

    def _refusal(self, answer: Answer) -> SysregError:
        who = self._credentials.name or "the token's user"
        reason = explain(answer)
        where = f"{answer.where} (token server)"
        if answer.status == 401:
            said = reason.removeprefix(": UNAUTHORIZED ")
            return NotAuthenticated(
                f"{where}: {said if said != reason else f'the credentials of {who} were refused{reason}'}",
                next_step="check the openrc that was sourced",
            )
        if reason.startswith(": UNAVAILABLE "):
            return Unavailable(f"{where}: {reason.removeprefix(': UNAVAILABLE ')}")
        if answer.status == 403:
            return NotAuthenticated(f"{where}: {who} may not log in{reason}")
        if answer.status == 429:
            return TooManyRequests(f"{where}: too many requests{reason}", next_step="try again later")
        if answer.status >= 500:
            return Unavailable(f"{where}: answered {answer.status}{reason}", next_step="try again later")
        return ProtocolError(f"{where}: answered {answer.status}{reason}")


def _read_token(answer: Answer) -> tuple[str, float]:
    data = answer.json()
    token = (data.get("token") or data.get("access_token")) if isinstance(data, dict) else None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise ProtocolError(f"{answer.where} (token server): the answer holds no token")
    lifetime = data.get("expires_in")
    if not isinstance(lifetime, (int, float)) or isinstance(lifetime, bool) or lifetime < _DEFAULT_LIFETIME:
        lifetime = _DEFAULT_LIFETIME
    return token, lifetime


def explain(answer: Answer) -> str:
    """`: CODE message` from a JSON error body (distribution's form, or `details`/`error`), or nothing."""
    try:
        data = answer.json()
    except ProtocolError:
        return ""
    errors = data.get("errors") if isinstance(data, dict) else None
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        first = errors[0]
        words = [str(first[key]) for key in ("code", "message") if isinstance(first.get(key), str)]
        if words:
            return ": " + " ".join(words)[:300]
    return ""
