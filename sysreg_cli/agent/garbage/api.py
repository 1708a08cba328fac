"""The calls of garbage collection (docs/contracts.rst, "The agent's API").

POST /v1/registry_image?garbage_collect=True is StarlingX's. Everything else here extends that API.
"""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sysreg_cli.agent.context import AgentContext
from sysreg_cli.agent.garbage.service import CollectionService
from sysreg_cli.agent.identity import Caller, Role
from sysreg_cli.agent.parameters import flag, seconds
from sysreg_cli.errors import UsageError
from sysreg_cli.settings import MAX_DURATION, MAX_GRACE
from sysreg_cli.v1 import paths, wire
from sysreg_cli.v1.collections import ID_HEADER, CollectionOptions

# A cancelled collection gives the collector 2 s to end, and removes its pins.
_STOP_SECONDS = 20.0


def routes(context: AgentContext, service: CollectionService) -> list[Route]:
    """Return the routes: start a collection, show the status, cancel."""

    async def start(request: Request, _caller: Caller) -> Response:
        if not flag(request, "garbage_collect"):
            raise UsageError(f"POST {paths.REGISTRY_IMAGE}: garbage_collect=True is missing")
        options = CollectionOptions(
            dry_run=flag(request, "dry_run"),
            delete_untagged=flag(request, "delete_untagged"),
            keep_deleted=seconds(request, "keep_deleted", 0.0, maximum=MAX_DURATION),
            grace=seconds(request, "grace", float(context.settings.agent.collect_grace), maximum=MAX_GRACE),
        )
        identifier = await asyncio.to_thread(service.start, options)
        request.state.audit_object = identifier
        task = asyncio.create_task(_stop_with_agent(service))
        context.tasks.add(task)
        task.add_done_callback(context.tasks.discard)
        return Response(status_code=204, headers={ID_HEADER: identifier})

    async def status(request: Request, caller: Caller) -> Response:
        names = caller.role >= Role.OPERATOR
        return JSONResponse(wire.to_json(service.status(names=names, plan=flag(request, "plan"))))

    async def cancel(_request: Request, _caller: Caller) -> Response:
        service.cancel()
        return Response(status_code=204)

    collect = paths.GARBAGE_COLLECT
    return [
        context.route("POST", paths.REGISTRY_IMAGE, start, Role.OPERATOR, action="garbage collection"),
        context.route("GET", collect, status, Role.READER, action="garbage collection status"),
        context.route("DELETE", collect, cancel, Role.OPERATOR, action="garbage collection cancel"),
    ]


async def _stop_with_agent(service: CollectionService) -> None:
    """Wait for the end of the collection. When the agent stops, which cancels this task, end it."""
    try:
        await asyncio.to_thread(service.wait)
    except asyncio.CancelledError:
        await asyncio.to_thread(service.stop, _STOP_SECONDS)
        raise
