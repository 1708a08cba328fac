"""What the route modules share: settings, who calls, the audit, and how an endpoint is guarded."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sysreg_cli.agent.identity import Authenticator, Caller, Peer, Role
from sysreg_cli.daemon.tls import ServerTLS
from sysreg_cli.errors import NotAuthenticated, SysregError
from sysreg_cli.settings import Settings
from sysreg_cli.v1 import faults, wire

log = logging.getLogger("sysreg.agent")
_audit = logging.getLogger("sysreg.audit")

Endpoint = Callable[[Request, Caller], Awaitable[Response]]


@dataclass(frozen=True)
class AgentContext:
    """One per agent process."""

    settings: Settings
    authenticator: Authenticator
    #: the TLS of our own listener; None where there is none
    tls: ServerTLS | None = None
    #: ends with the agent; route modules keep tasks here that outlive the request that started them
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def route(self, method: str, path: str, endpoint: Endpoint, role: Role, *, action: str) -> Route:
        """A route that only callers with ``role`` reach; ``endpoint`` gets the request and the caller.

        Each call that needs more than READER, and each refusal, is one audit line, which names ``action`` and
        what the endpoint put into ``request.state.audit_object``. Errors of the tree become answers.
        """

        async def guarded(request: Request) -> Response:
            started = time.monotonic()
            who = "nobody"
            outcome = "failed"
            changes = role > Role.READER
            peer: Peer | None = getattr(request.state, "peer", None)
            try:
                token = request.headers.get("x-auth-token")
                if token is None:  # at once: root needs neither Keystone nor a thread that waits for it
                    caller = self.authenticator.authenticate(None, peer)
                else:
                    caller = await asyncio.to_thread(self.authenticator.authenticate, token, peer)
                who = caller.name
                caller.require(role)
                response = await endpoint(request, caller)
                outcome = getattr(request.state, "audit_outcome", "done")
            except SysregError as error:
                outcome = f"refused: {error}" if error.http_status < 500 else f"failed: {error}"
                changes = changes or error.http_status in (401, 403)
                return error_response(error, self.settings.keystone.auth_url)
            except OSError as error:
                where = f"{error.filename}: " if error.filename else ""
                failure = SysregError(f"{action} failed: {where}{error.strerror or error}")
                outcome = f"failed: {failure}"
                log.error("%s", failure)
                return fault(500, str(failure))
            except HTTPException as error:
                outcome = f"refused: {error.detail}"
                raise
            finally:
                if changes:
                    audit(who, _origin(request, peer), action, request, outcome, time.monotonic() - started)
            return response

        return Route(path, guarded, methods=[method])


def _origin(request: Request, peer: Peer | None) -> str:
    if peer is not None:
        return f"uid {peer.uid} pid {peer.pid}"
    return request.client.host if request.client else "?"


def audit(who: str, origin: str, action: str, request: Request, outcome: str, seconds: float) -> None:
    """One line in the journal; control characters of what callers sent are escaped."""
    subject = getattr(request.state, "audit_object", "")
    line = f"{action}{' ' if subject else ''}{subject} by {who} ({origin}): {outcome} ({seconds:.3f} s)"
    _audit.info("%s", line.encode("unicode_escape").decode("ascii"))


def error_response(error: SysregError, keystone_url: str) -> Response:
    """Return the response for ``error``. ``keystone_url`` is where a caller gets a token."""
    headers = {}
    if isinstance(error, NotAuthenticated):
        # as keystonemiddleware writes it: httplib2 raises ValueError for a challenge without a parameter
        headers["WWW-Authenticate"] = f'Keystone uri="{keystone_url}"'
    if error.http_status == 503:
        headers["Retry-After"] = "5"
    return fault(error.http_status, str(error), headers)


def fault(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    """Return an error response in the shape that StarlingX's clients read."""
    return JSONResponse(wire.to_json(faults.to_body(status, text)), status, headers)
