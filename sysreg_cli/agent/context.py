"""What the modules with routes share: the settings, and routes that are guarded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sysreg_cli.agent.audit import AuditEntry, refusal_sums
from sysreg_cli.agent.identity import Caller, CallerAuthenticator, Role
from sysreg_cli.agent.registry_token import bearer_token, caller_with
from sysreg_cli.agent.responses import error_response
from sysreg_cli.daemon.refusal_sums import RefusalSums
from sysreg_cli.errors import NotAuthenticated, SysregError, text_of
from sysreg_cli.settings import Settings

log = logging.getLogger("sysreg.agent")

Endpoint = Callable[[Request, Caller], Awaitable[Response]]


@dataclass(frozen=True)
class AgentContext:
    """One per agent process."""

    settings: Settings
    authenticator: CallerAuthenticator
    refusals: RefusalSums = field(default_factory=refusal_sums)
    #: tasks that outlive the request that started them; they end with the agent
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def route(
        self,
        method: str,
        path: str,
        endpoint: Endpoint,
        role: Role,
        *,
        action: str,
        registry_tokens: bool = False,
        audited: bool = False,
    ) -> Route:
        """Return a route that only callers with ``role`` reach. The audit log names ``action``.

        ``registry_tokens``: a caller may send a registry token. Such a caller has no role, and the endpoint
        asks ``Caller.may``. ``audited``: each call gets a line in the audit log, whatever ``role`` is.
        """
        audited = audited or role > Role.READER
        guarded = _GuardedEndpoint(self, endpoint, role, action, registry_tokens, audited)
        return Route(path, guarded.respond, methods=[method])


@dataclass(frozen=True, slots=True)
class _GuardedEndpoint:
    """Identifies the caller, requires a role, audits, and turns errors into responses."""

    context: AgentContext
    endpoint: Endpoint
    role: Role
    action: str
    registry_tokens: bool
    audited: bool

    async def respond(self, request: Request) -> Response:
        """Return the response. Write an audit line if the call is audited, or refused."""
        entry = AuditEntry(request, self.action, self.context.refusals)
        audited = self.audited
        try:
            response = await self._call(request, entry)
            entry.outcome = getattr(request.state, "audit_outcome", "done")
        except SysregError as error:
            audited = audited or error.http_status in (401, 403)
            entry.fail(error)
            response = error_response(error, self.context.settings.keystone.auth_url)
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
            failure = SysregError(f"{self.action} failed: {text_of(error)}")
            log.error("%s", failure)
            raise failure from error

    async def _authenticate(self, request: Request) -> Caller:
        peer = getattr(request.state, "peer", None)
        client = request.client.host if request.client else ""
        token = request.headers.get("x-auth-token")
        bearer = bearer_token(request.headers.get("authorization"))
        if token is None and bearer is not None:
            # a token decides if the client sends one, also for root on the unix socket
            if not self.registry_tokens:
                raise NotAuthenticated(
                    "this call takes no registry token", next_step="send a Keystone token as X-Auth-Token"
                )
            return caller_with(bearer, self.context.settings)
        return await self.context.authenticator.authenticate(token, peer, client)
