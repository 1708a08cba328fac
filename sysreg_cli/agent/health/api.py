"""The calls of `system registry-health-query` (docs/contracts.rst, "The agent's API")."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sysreg_cli.agent.context import AgentContext
from sysreg_cli.agent.health.trial import try_registry
from sysreg_cli.agent.identity import Caller, Role
from sysreg_cli.v1 import paths, wire


def routes(context: AgentContext) -> list[Route]:
    """Return the routes."""

    async def attempt(request: Request, _caller: Caller) -> Response:
        # in a thread, because a client that goes away must not keep it from cleaning up
        trial = await asyncio.to_thread(try_registry, context.settings)
        request.state.audit_outcome = str(trial.outcome)
        return JSONResponse(wire.to_json(trial))

    return [context.route("POST", paths.TRIAL, attempt, Role.ADMIN, action="trial of the registry")]
