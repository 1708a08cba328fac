"""The agent's HTTP API: routes of the parts, size limits, and the error body of StarlingX's v1 API."""

from __future__ import annotations

import logging

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sysreg_cli.agent.context import AgentContext, fault
from sysreg_cli.agent.rate import RateLimit

log = logging.getLogger("sysreg.agent")

#: bytes of a request's body; a certificate may have 64 KiB, and the form around it is small
MOST_BYTES = 256 * 1024


def build(context: AgentContext, routes: list[BaseRoute]) -> ASGIApp:
    """The application that serves ``routes`` and GET /health."""
    application = Starlette(
        routes=[Route("/health", _health), *routes],
        exception_handlers={HTTPException: _http_error, Exception: _unexpected},
    )
    application.state.context = context
    # A redirect of Starlette's for the slash would make clients send the body, or the token, twice.
    application.router.redirect_slashes = False
    return RateLimit(_Limits(application))


async def _health(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return fault(error.status_code, error.detail, dict(error.headers or {}))


async def _unexpected(request: Request, _error: Exception) -> Response:
    # Starlette raises it again behind us, and uvicorn logs the traceback
    log.error("%s %s: unexpected error", request.method, request.url.path)
    return fault(500, "internal error of sysreg-agent; its journal holds the reason")


class _Limits:
    """Drops a trailing slash, and stops bodies over MOST_BYTES, whatever length they claimed."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        if len(scope["path"]) > 1:
            scope["path"] = scope["path"].rstrip("/") or "/"
        claimed = dict(scope["headers"]).get(b"content-length", b"0")
        if not claimed.isdigit() or int(claimed) > MOST_BYTES:
            answer = fault(413, f"the request is longer than {MOST_BYTES} bytes")
            await answer(scope, receive, send)
            return
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MOST_BYTES:
                raise HTTPException(413, f"the request is longer than {MOST_BYTES} bytes")
            return message

        await self._application(scope, limited, send)
