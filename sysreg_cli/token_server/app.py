"""The HTTP side: the distribution project's token API, GET and POST, and a health endpoint."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import parse_qs

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Send
from starlette.types import Scope as ASGIScope

from sysreg_cli.errors import NotAuthenticated, SysregError, Unavailable, UsageError
from sysreg_cli.token_server.credentials import Credentials, from_headers, from_pair
from sysreg_cli.token_server.decision_log import DecisionLog
from sysreg_cli.token_server.issuer import Issued, Issuer
from sysreg_cli.tokens.scope import Scope, parse_scopes

_Fields = dict[str, list[str]]

# docker gives a token request 15 s and comes back after a 503; others wait for minutes, and a 503 ends them.
DOCKER_WAIT = 12.0
OTHERS_WAIT = 300.0

_RETRY_AFTER = "10"
_MOST_BYTES = 65536
_MOST_FIELDS = 1000
_BODY_SECONDS = 15.0
_SHOWN_SCOPES = 8
_LEFT = 499
_CODES = {400: "BAD_REQUEST", 401: "UNAUTHORIZED", 403: "DENIED", 404: "NOT_FOUND", 503: "UNAVAILABLE"}


class TokenApp:
    """The endpoints. Every decision is one log line: a JSON object without secrets."""

    def __init__(self, issuer: Issuer, service: str, decisions: DecisionLog) -> None:
        self._issuer = issuer
        self._decisions = decisions
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

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """The ASGI application. What nearly every request is takes no way through middleware and routes."""
        if scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == "/token/":
            response = await self._get(Request(scope, receive, send))
            await response(scope, receive, send)
        else:
            await self._routed(scope, receive, send)

    async def _health(self, request: Request) -> Response:
        return _json({"status": "ok", "held": self._issuer.waiting, "signing_key": self._issuer.signing_key})

    async def _get(self, request: Request) -> Response:
        return await self._decide(request, _credentials_of_get)

    async def _post(self, request: Request) -> Response:
        return await self._decide(request, _credentials_of_post)

    async def _decide(
        self, request: Request, read: Callable[[Request], Awaitable[tuple[_Fields, Credentials]]]
    ) -> Response:
        decision = _Decision(request, self._decisions)
        try:
            fields, credentials = await read(request)
            return await self._answer(request, decision, credentials, fields)
        except SysregError as error:
            return self._refuse(decision, error)
        except ClientDisconnect:
            decision.log(_LEFT, "the client left")
            return Response(status_code=_LEFT)
        except Exception as error:
            # A mistake of ours. Its message may quote what was sent, so the line says only where it is.
            decision.log(500, f"{type(error).__name__} at {_place(error)}")
            return _error(500, "internal error of the token server")

    async def _answer(
        self,
        request: Request,
        decision: _Decision,
        credentials: Credentials,
        fields: _Fields,
    ) -> Response:
        decision.credentials = credentials
        decision.asked = scopes = parse_scopes(fields.get("scope", []))
        issued = await self._issuer.issue(credentials, scopes)
        if issued is None:
            issued = await self._wait(request, credentials, scopes)
            if issued is None:
                decision.log(_LEFT, "the client left while writes were held")
                return Response(status_code=_LEFT)
        decision.issued = issued
        decision.log(200)
        return _json(
            {"token": issued.token, "access_token": issued.token, "expires_in": issued.expires_in},
            headers={"Cache-Control": "no-store"},
        )

    async def _wait(
        self, request: Request, credentials: Credentials, scopes: Sequence[Scope]
    ) -> Issued | None:
        """Hold the request until the write lock falls; None if the client leaves before."""
        is_docker = request.headers.get("user-agent", "").startswith("docker/")
        waiting = asyncio.create_task(
            self._issuer.issue_when_open(credentials, scopes, DOCKER_WAIT if is_docker else OTHERS_WAIT)
        )
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
        elif isinstance(error, Unavailable):
            headers["Retry-After"] = _RETRY_AFTER
        elif isinstance(error, UsageError):
            # Part of a body may still be under way.
            headers["Connection"] = "close"
        decision.log(status, str(error))
        return _error(status, str(error), headers)


class _Decision:
    """What is known about a request so far, for its log line."""

    __slots__ = ("_decisions", "asked", "credentials", "issued", "request", "started")

    def __init__(self, request: Request, decisions: DecisionLog) -> None:
        self._decisions = decisions
        self.request = request
        self.started = time.perf_counter()
        self.credentials: Credentials | None = None
        self.asked: Sequence[Scope] = ()
        self.issued: Issued | None = None

    def log(self, status: int, reason: str = "") -> None:
        """Write the line."""
        client = self.request.scope.get("client")
        line: dict[str, Any] = {
            "event": "token",
            "status": status,
            "client": client[0] if client else None,
            "agent": self.request.headers.get("user-agent", "")[:80],
            "ms": round((time.perf_counter() - self.started) * 1000, 1),
        }
        if self.credentials is not None:
            line["kind"] = self.credentials.kind
            line["login"] = self.credentials.name[:80]
        if self.asked:
            line["asked"] = _shown([f"{one.type}:{one.name}:{','.join(one.actions)}" for one in self.asked])
        if self.issued is not None:
            line["user"] = self.issued.identity.name
            line["granted"] = _shown([str(one) for one in self.issued.access])
        if reason:
            line["reason"] = reason
        self._decisions.write(line)


def _shown(scopes: list[str]) -> list[str]:
    if len(scopes) <= _SHOWN_SCOPES:
        return scopes
    return [*scopes[:_SHOWN_SCOPES], f"and {len(scopes) - _SHOWN_SCOPES} more"]


async def _credentials_of_get(request: Request) -> tuple[_Fields, Credentials]:
    query: bytes = request.scope["query_string"]
    if len(query) > _MOST_BYTES:
        raise UsageError(f"the query is longer than {_MOST_BYTES} bytes")
    headers = request.headers
    return _parse(query), from_headers(headers.get("authorization"), headers.get("x-auth-token"))


async def _credentials_of_post(request: Request) -> tuple[_Fields, Credentials]:
    fields = _parse(await _body(request))
    if fields.get("grant_type") != ["password"]:
        raise UsageError("only grant_type=password is understood", next_step="there are no refresh tokens")
    names, secrets = fields.get("username", [""]), fields.get("password", [""])
    if len(names) > 1 or len(secrets) > 1:
        raise UsageError("username or password is given twice")
    return fields, from_pair(names[0], secrets[0])


def _parse(encoded: bytes) -> _Fields:
    """The fields of a query or a form; what isn't UTF-8 becomes a character that no scope may hold."""
    try:
        return parse_qs(encoded.decode("latin-1"), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise UsageError(f"more than {_MOST_FIELDS} parameters") from None


async def _body(request: Request) -> bytes:
    """The form of a POST, which may come chunked and slowly, but not for ever."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise UsageError("a POST needs Content-Type application/x-www-form-urlencoded")
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > _MOST_BYTES:
                    raise UsageError(f"the body is longer than {_MOST_BYTES} bytes")
    except TimeoutError:
        raise UsageError(f"the body did not arrive within {_BODY_SECONDS:.0f} s") from None
    return bytes(body)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _json(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, headers, "application/json")


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """An error body of the registry API, which clients know how to show."""
    code = _CODES.get(status, "UNKNOWN")
    return _json({"errors": [{"code": code, "message": message, "detail": None}]}, status, headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, error.detail, dict(error.headers or {}))


def _place(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "an unknown place"
