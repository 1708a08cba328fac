"""The calls of `system registry-health-query` (docs/contracts.rst, "The agent's API")."""

from __future__ import annotations

import asyncio
import threading

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sysreg_cli.agent.context import AgentContext
from sysreg_cli.agent.health.blobs import BlobReader
from sysreg_cli.agent.health.trial import try_registry
from sysreg_cli.agent.identity import Caller, Role
from sysreg_cli.v1 import paths, wire

# how often the agent looks whether the client is still there, in seconds
_LOOK = 0.5


def routes(context: AgentContext, reader: BlobReader) -> list[Route]:
    """Return the routes."""

    async def attempt(request: Request, _caller: Caller) -> Response:
        # in a thread, because a client that goes away must not keep it from cleaning up
        trial = await asyncio.to_thread(try_registry, context.settings)
        request.state.audit_outcome = str(trial.outcome)
        return JSONResponse(wire.to_json(trial))

    async def read(request: Request, _caller: Caller) -> Response:
        has_gone = threading.Event()
        reading = asyncio.wrap_future(reader.start(lambda: not has_gone.is_set()))
        try:
            while not reading.done():
                await asyncio.wait([reading], timeout=_LOOK)
                if await request.is_disconnected():
                    has_gone.set()
        finally:
            has_gone.set()
        found = await reading
        request.state.audit_outcome = f"{found.blobs} blobs, {len(found.damages)} damages"
        return JSONResponse(wire.to_json(found))

    return [
        context.route("POST", paths.TRIAL, attempt, Role.ADMIN, action="trial of the registry"),
        context.route("GET", paths.BLOBS, read, Role.ADMIN, action="reading of all blobs"),
    ]
