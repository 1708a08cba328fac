"""Routes of garbage collection (docs/contracts.rst, "The agent's API").

POST /v1/registry_image?garbage_collect=True starts one; ``dry_run``, ``delete_untagged`` and ``grace`` are
ours on top of StarlingX's API, and so are the status and its DELETE, which cancels.
"""

from __future__ import annotations

import asyncio
import re

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sysreg_cli.agent.context import AgentContext
from sysreg_cli.agent.garbage.result import Options
from sysreg_cli.agent.garbage.service import CollectionService
from sysreg_cli.agent.identity import Caller, Role
from sysreg_cli.errors import UsageError

STATUS_PATH = "/v1/registry_image/garbage_collect"

# A collection that is told to stop ends a collector that has 2 s to do so, and removes its pins.
_STOP_SECONDS = 20.0
_YES = {"1", "true", "yes", "on"}
_NO = {"", "0", "false", "no", "off"}


def routes(context: AgentContext) -> list[Route]:
    """The routes; what a former agent left half done is cleaned up first. Raises OSError."""
    service = CollectionService(context.settings)
    service.recover()

    async def start(request: Request, _caller: Caller) -> Response:
        if not _flag(request, "garbage_collect"):
            raise UsageError("POST /v1/registry_image: garbage_collect=True is missing")
        options = Options(
            dry_run=_flag(request, "dry_run"),
            delete_untagged=_flag(request, "delete_untagged"),
            grace=_grace(request, context.settings.agent.collect_grace),
        )
        identifier = await asyncio.to_thread(service.start, options)
        request.state.audit_object = identifier
        task = asyncio.create_task(_guard(service))
        context.tasks.add(task)
        task.add_done_callback(context.tasks.discard)
        return Response(status_code=204, headers={"X-Collection-Id": identifier})

    async def status(request: Request, caller: Caller) -> Response:
        names = caller.role >= Role.OPERATOR
        return JSONResponse(service.status(names=names, plan=_flag(request, "plan")))

    async def cancel(_request: Request, _caller: Caller) -> Response:
        service.cancel()
        return Response(status_code=204)

    return [
        context.route("POST", "/v1/registry_image", start, Role.OPERATOR, action="garbage collection"),
        context.route("GET", STATUS_PATH, status, Role.READER, action="garbage collection status"),
        context.route("DELETE", STATUS_PATH, cancel, Role.OPERATOR, action="garbage collection cancel"),
    ]


async def _guard(service: CollectionService) -> None:
    """Lives as long as a collection; when the agent stops, so that asyncio cancels this, it ends it first."""
    try:
        await asyncio.to_thread(service.wait)
    except asyncio.CancelledError:
        await asyncio.to_thread(service.stop, _STOP_SECONDS)
        raise


def _flag(request: Request, name: str) -> bool:
    value = request.query_params.get(name, "").lower()
    if value not in _YES | _NO:
        raise UsageError(f"{name} is neither True nor False")
    return value in _YES


def _grace(request: Request, default: int) -> float:
    value = request.query_params.get("grace")
    if value is None:
        return float(default)
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise UsageError("grace is not a whole number of seconds")
    return float(value)
