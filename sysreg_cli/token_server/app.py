"""The HTTP API: the distribution project's token API with GET and POST, and /health."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import parse_qs

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from sysreg_cli.errors import NotAuthenticated, SysregError, TooManyRequests, Unavailable, UsageError
from sysreg_cli.token_server.credentials import Credentials, from_headers, from_pair
from sysreg_cli.token_server.decision_log import DecisionLog
from sysreg_cli.token_server.issuer import Issued, Issuer
from sysreg_cli.tokens.access import Access
from sysreg_cli.tokens.scope import parse_scopes

_Fields = dict[str, list[str]]

_RETRY_AFTER = "10"
_MAX_BYTES = 65536
_MAX_FIELDS = 1000
_MAX_BODY_SECONDS = 15.0
_MAX_LOGGED_SCOPES = 8
# nginx's status for a client that closed the connection; only the log shows it
_CLIENT_LEFT = 499
_CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHORIZED",
    403: "DENIED",
    404: "NOT_FOUND",
    429: "TOOMANYREQUESTS",
    503: "UNAVAILABLE",
}


class TokenApp:
    """The ASGI application. Each decision is one log line: a JSON object without secrets."""

    def __init__(
        self,
        issuer: Issuer,
        service: str,
        decisions: DecisionLog,
        *,
        docker_wait: float = 12.0,
        other_wait: float = 300.0,
    ) -> None:
        """The waits are the seconds that a request for a write token is held while a collection runs.

        docker gives up a request after 15 s, and tries again after a 503. Other clients wait for minutes, but
        a 503 is final for them.
        """
        self._issuer = issuer
        self._decisions = decisions
        self._docker_wait = docker_wait
        self._other_wait = other_wait
        self._challenge = f'Basic realm="{service}", charset="UTF-8"'
        self._routed = Starlette(
            routes=[
                Route("/token/", self._get, methods=["GET"]),
                Route("/token/", self._post, methods=["POST"]),
                Route("/token", self._get, methods=["GET"]),
                Route("/token", self._post, methods=["POST"]),
                Route("/health", self._health, methods=["GET"]),
            ],
            exception_handlers={HTTPException: _http_error},
        )
        self._routed.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # nearly all requests are this one: it skips Starlette's middleware and routing
        if scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == "/token/":
            response = await self._get(Request(scope, receive, send))
            await response(scope, receive, send)
        else:
            await self._routed(scope, receive, send)

    async def _health(self, request: Request) -> Response:
        return _json(
            {
                "status": "ok",
                "held": self._issuer.waiting,
                "refused_logins": self._issuer.refusals,
                "signing_key": self._issuer.signing_key,
            }
        )

    async def _get(self, request: Request) -> Response:
        return await self._decide(request, _read_get)

    async def _post(self, request: Request) -> Response:
        return await self._decide(request, _read_post)

    async def _decide(
        self, request: Request, read: Callable[[Request], Awaitable[tuple[_Fields, Credentials]]]
    ) -> Response:
        decision = _Decision(request, self._decisions)
        try:
            fields, decision.credentials = await read(request)
            decision.requested = parse_scopes(fields.get("scope", []))
            return await self._respond(request, decision, decision.credentials)
        except SysregError as error:
            return self._refuse(decision, error)
        except ClientDisconnect:
            decision.log(_CLIENT_LEFT, "the client left")
            return Response(status_code=_CLIENT_LEFT)
        except Exception as error:
            # a bug; the message may quote a secret, so the line only says where it is
            decision.log(500, f"{type(error).__name__} at {_place(error)}")
            return _error(500, "internal error of the token server")

    async def _respond(self, request: Request, decision: _Decision, credentials: Credentials) -> Response:
        issued = self._issuer.issue_at_once(credentials, decision.requested)
        if issued is None:
            issued = await self._wait(request, credentials, decision.requested)
            if issued is None:
                decision.log(_CLIENT_LEFT, "the client left before it got its token")
                return Response(status_code=_CLIENT_LEFT)
        decision.issued = issued
        decision.log(200)
        return _json(
            {"token": issued.token, "access_token": issued.token, "expires_in": issued.expires_in},
            headers={"Cache-Control": "no-store"},
        )

    async def _wait(
        self, request: Request, credentials: Credentials, requested: Sequence[Access]
    ) -> Issued | None:
        """Wait for Keystone and for the write lock. Return None if the client leaves before."""
        is_docker = request.headers.get("user-agent", "").startswith("docker/")
        wait = self._docker_wait if is_docker else self._other_wait
        client = request.client.host if request.client else ""
        issuing = self._issuer.issue(credentials, requested, client=client, wait=wait)
        waiting = asyncio.create_task(issuing)
        leaving = asyncio.create_task(_disconnected(request))
        try:
            await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
            return waiting.result() if waiting.done() else None
        finally:
            waiting.cancel()
            leaving.cancel()
            await asyncio.gather(waiting, leaving, return_exceptions=True)

    def _refuse(self, decision: _Decision, error: SysregError) -> Response:
        status = error.http_status
        headers = {}
        if isinstance(error, NotAuthenticated):
            headers["WWW-Authenticate"] = self._challenge
        elif isinstance(error, Unavailable | TooManyRequests):
            headers["Retry-After"] = _RETRY_AFTER
        elif isinstance(error, UsageError):
            # the rest of the body would be taken for the next request
            headers["Connection"] = "close"
        decision.log(status, str(error))
        return _error(status, str(error), headers)


class _Decision:
    """What is known about a request so far, for its log line."""

    __slots__ = ("_decisions", "credentials", "issued", "request", "requested", "started")

    def __init__(self, request: Request, decisions: DecisionLog) -> None:
        self._decisions = decisions
        self.request = request
        self.started = time.perf_counter()
        self.credentials: Credentials | None = None
        self.requested: Sequence[Access] = ()
        self.issued: Issued | None = None

    def log(self, status: int, reason: str = "") -> None:
        """Write the line, unless it is one of too many refusals."""
        client, _ = self.request.scope.get("client") or ("", 0)
        if status != 200 and not self._decisions.wants_refusal(client, status):
            return
        line: dict[str, Any] = {
            "event": "token",
            "status": status,
            "client": client,
            "agent": self.request.headers.get("user-agent", "")[:80],
            "ms": round((time.perf_counter() - self.started) * 1000, 1),
        }
        if self.credentials is not None:
            line["kind"] = self.credentials.kind
            line["login"] = self.credentials.name[:80]
        if self.requested:
            line["asked"] = _logged(self.requested)
        if self.issued is not None:
            line["user"] = self.issued.identity.name
            line["granted"] = _logged(self.issued.access)
        if reason:
            line["reason"] = reason
        self._decisions.write(line)


def _logged(access: Sequence[Access]) -> list[str]:
    shown = [str(entry) for entry in access[:_MAX_LOGGED_SCOPES]]
    more = len(access) - len(shown)
    return [*shown, f"and {more} more"] if more else shown


async def _read_get(request: Request) -> tuple[_Fields, Credentials]:
    query: bytes = request.scope["query_string"]
    if len(query) > _MAX_BYTES:
        raise UsageError(f"the query is longer than {_MAX_BYTES} bytes")
    headers = request.headers
    authorization = headers.get("authorization")
    # the other header is read only if it counts, because the search for a missing one is slow
    auth_token = headers.get("x-auth-token") if authorization is None else None
    return _parse(query), from_headers(authorization, auth_token)


async def _read_post(request: Request) -> tuple[_Fields, Credentials]:
    fields = _parse(await _read_body(request))
    if fields.get("grant_type") != ["password"]:
        raise UsageError("only grant_type=password is understood", next_step="there are no refresh tokens")
    names, secrets = fields.get("username", [""]), fields.get("password", [""])
    if len(names) > 1 or len(secrets) > 1:
        raise UsageError("username or password is given twice")
    return fields, from_pair(names[0], secrets[0])


def _parse(encoded: bytes) -> _Fields:
    """Parse a query or a form. What isn't UTF-8 becomes a character that no scope may contain."""
    try:
        return parse_qs(
            encoded.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_MAX_FIELDS
        )
    except ValueError:
        raise UsageError(f"more than {_MAX_FIELDS} parameters") from None


async def _read_body(request: Request) -> bytes:
    """Read the form of a POST. It may come in chunks, up to a number of bytes and seconds."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise UsageError("a POST needs Content-Type application/x-www-form-urlencoded")
    body = bytearray()
    try:
        async with asyncio.timeout(_MAX_BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > _MAX_BYTES:
                    raise UsageError(f"the body is longer than {_MAX_BYTES} bytes")
    except TimeoutError:
        raise UsageError(f"the body did not arrive within {_MAX_BODY_SECONDS:.0f} s") from None
    return bytes(body)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _json(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, headers, "application/json")


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """Return an error body of the registry API, which clients show."""
    code = _CODES.get(status, "UNKNOWN")
    return _json({"errors": [{"code": code, "message": message, "detail": None}]}, status, headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, error.detail, dict(error.headers or {}))


def _place(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}:{frame.lineno}"
