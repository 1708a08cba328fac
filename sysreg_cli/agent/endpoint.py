"""A guarded endpoint: it identifies the caller, requires a role, audits, and turns errors into responses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from sysreg_cli.agent.audit import AuditEntry
from sysreg_cli.agent.identity import Authenticator, Caller, Role
from sysreg_cli.agent.responses import error_response
from sysreg_cli.errors import SysregError

log = logging.getLogger("sysreg.agent")

Endpoint = Callable[[Request, Caller], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class GuardedEndpoint:
    """Calls ``endpoint`` with the request and the caller, if the caller has ``role``.

    Each call of an endpoint that needs more than READER, and each refusal of a caller, is one line of the
    audit log. It names ``action``.
    """

    endpoint: Endpoint
    role: Role
    action: str
    authenticator: Authenticator
    keystone_url: str

    async def respond(self, request: Request) -> Response:
        """Return the response. Raises what is neither a SysregError nor an OSError."""
        entry = AuditEntry(request, self.action)
        audited = self.role > Role.READER
        try:
            response = await self._call(request, entry)
            entry.outcome = getattr(request.state, "audit_outcome", "done")
        except SysregError as error:
            audited = audited or error.http_status in (401, 403)
            entry.fail(error)
            response = error_response(error, self.keystone_url)
        except HTTPException as error:
            entry.outcome = f"refused: {error.detail}"
            raise
        finally:
            if audited:
                entry.write()
        return response

    async def _call(self, request: Request, entry: AuditEntry) -> Response:
        caller = await self._authenticate(request)
        entry.caller = caller.name
        caller.require(self.role)
        try:
            return await self.endpoint(request, caller)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            failure = SysregError(f"{self.action} failed: {where}{error.strerror or error}")
            log.error("%s", failure)
            raise failure from error

    async def _authenticate(self, request: Request) -> Caller:
        peer = getattr(request.state, "peer", None)
        token = request.headers.get("x-auth-token")
        if token is None:
            # in this thread: root needs neither Keystone nor one of the threads that wait for it
            return self.authenticator.authenticate(None, peer)
        return await asyncio.to_thread(self.authenticator.authenticate, token, peer)
