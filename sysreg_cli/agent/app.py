"""The agent's HTTP application: /health, limits on requests, and responses to what no route handles."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sysreg_cli.agent.rate import RateLimit
from sysreg_cli.agent.responses import fault

log = logging.getLogger("sysreg.agent")

# A bundle of CA certificates may have 1 MiB, and the form around it is small.
_MAX_BODY_BYTES = 1280 * 1024


def build(routes: Sequence[BaseRoute]) -> ASGIApp:
    """Return the application that serves ``routes`` and GET /health."""
    application = Starlette(
        routes=[Route("/health", _health), *routes],
        exception_handlers={HTTPException: _http_error, Exception: _unexpected},
    )
    # Starlette's redirect for a slash at the end would make clients send the body, or the token, twice
    application.router.redirect_slashes = False
    return RateLimit(_Limits(application))


async def _health(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return fault(error.status_code, error.detail, dict(error.headers or {}))


async def _unexpected(request: Request, _error: Exception) -> Response:
    # Starlette raises the error again afterwards, and uvicorn logs the traceback
    log.error("%s %s: unexpected error", request.method, request.url.path)
    return fault(500, "internal error of sysreg-agent; see `journalctl -u sysreg-agent`")


class _Limits:
    """Removes a slash at the end of the path, and refuses bodies over _MAX_BODY_BYTES.

    It counts the bytes that arrive, because a Content-Length may be missing or wrong.
    """

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        if len(scope["path"]) > 1:
            scope["path"] = scope["path"].rstrip("/") or "/"
        too_long = f"the request is longer than {_MAX_BODY_BYTES} bytes"
        claimed = dict(scope["headers"]).get(b"content-length", b"0")
        if not claimed.isdigit() or int(claimed) > _MAX_BODY_BYTES:
            await fault(413, too_long)(scope, receive, send)
            return
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > _MAX_BODY_BYTES:
                raise HTTPException(413, too_long)
            return message

        await self._application(scope, limited, send)
