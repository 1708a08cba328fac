"""The calls that tell where the space went, and what an image is (docs/contracts.rst, "The agent's API")."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sysreg_cli import reference
from sysreg_cli.agent.context import AgentContext
from sysreg_cli.agent.identity import Caller, Role
from sysreg_cli.agent.usage.details import read_details
from sysreg_cli.agent.usage.growth import Growth, full_on
from sysreg_cli.agent.usage.report import Query, read_usage
from sysreg_cli.errors import InvalidReference, UsageError
from sysreg_cli.reference import ImageReference
from sysreg_cli.text import shorten
from sysreg_cli.tokens.grants import Grants
from sysreg_cli.v1 import paths, wire
from sysreg_cli.v1.collections import CollectionStatus
from sysreg_cli.v1.images import ImageDetails
from sysreg_cli.v1.usage import Grouping, Usage


def routes(context: AgentContext, collections: Callable[[], CollectionStatus], growth: Growth) -> list[Route]:
    """Return the routes. ``collections`` tells how the last collections ended."""
    settings = context.settings
    grants = Grants(settings.token_server)
    # one reading at a time: each costs a processor for as long as it takes
    turn = threading.Lock()

    def read(query: Query) -> Usage:
        with turn:
            usage = read_usage(settings, query)
        if not query.whole:
            return usage
        now = time.time()
        pace = growth.per_day(now)
        full = None if usage.free is None else full_on(usage.free, pace, now)
        usage = replace(usage, growth_per_day=pace, full_on=str(full) if full else None)
        last = next((it for it in collections().results if not it.options.dry_run), None)
        if last is None:
            return usage
        return replace(usage, last_collection=last.ended, last_collection_outcome=str(last.outcome))

    async def show(request: Request, caller: Caller) -> Response:
        by, image = _parse(request, settings.registry.addresses)
        query = Query(
            sees=lambda name: caller.may_pull(name, grants),
            whole=caller.role >= Role.READER,
            by=by,
            image=image,
        )
        return JSONResponse(wire.to_json(await asyncio.to_thread(read, query)))

    def read_one(image: ImageReference, caller: Caller) -> ImageDetails:
        with turn:
            return read_details(settings, image, lambda name: caller.may_pull(name, grants))

    async def show_image(request: Request, caller: Caller) -> Response:
        text = request.query_params.get("image_name_and_tag", "")
        image = reference.parse(text, settings.registry.addresses)
        if not image.tag and not image.digest:
            raise InvalidReference(f"{shorten(text)}: names no tag and no digest")
        return JSONResponse(wire.to_json(await asyncio.to_thread(read_one, image, caller)))

    return [
        context.route("GET", paths.USAGE, show, Role.NONE, action="usage"),
        context.route("GET", paths.IMAGE_DETAILS, show_image, Role.NONE, action="image show"),
    ]


def _parse(request: Request, own_hosts: Sequence[str]) -> tuple[Grouping | None, str]:
    """Return what a row stands for, and the image whose tags are rows. Raises UsageError."""
    word, name = request.query_params.get("by"), request.query_params.get("image_name")
    try:
        by = None if word is None else Grouping(word)
    except ValueError:
        raise UsageError(f"by is none of {', '.join(Grouping)}") from None
    if (by is Grouping.TAG) != (name is not None):
        raise UsageError("by=tag and image_name=NAME go together")
    if name is None:
        return by, ""
    image = reference.parse(name, own_hosts)
    if image.tag or image.digest:
        raise InvalidReference(f"{shorten(name)}: image_name takes no tag or digest")
    return by, image.repository
