"""The calls that list and restore deleted tags (docs/contracts.rst, "The agent's API")."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sysreg_cli import reference
from sysreg_cli.agent.context import AgentContext
from sysreg_cli.agent.identity import Caller, Role
from sysreg_cli.agent.restore.listing import list_deleted
from sysreg_cli.agent.restore.restoring import Order, restore
from sysreg_cli.errors import InvalidReference, NotAuthorized, UsageError
from sysreg_cli.reference import ImageReference
from sysreg_cli.settings import Settings
from sysreg_cli.text import shorten
from sysreg_cli.tokens.grants import Grants
from sysreg_cli.v1 import paths, wire
from sysreg_cli.v1.restore import DeletedTags, Restoration, RestoredImage


def routes(context: AgentContext) -> list[Route]:
    """Return the routes."""
    settings = context.settings
    grants = Grants(settings.token_server)
    # one at a time: each reads the whole storage
    turn = threading.Lock()

    def read(caller: Caller) -> DeletedTags:
        sees_all = caller.may_list_all(grants)
        if caller.access == ():
            raise NotAuthorized(f"the registry token of {caller.name} does not allow to list the images")
        with turn:
            return list_deleted(settings, lambda name: sees_all or caller.may_pull(name, grants))

    def run(orders: list[Order]) -> Restoration:
        with turn:
            return restore(settings, orders)

    async def show(_request: Request, caller: Caller) -> Response:
        return JSONResponse(wire.to_json(await asyncio.to_thread(read, caller)))

    async def post(request: Request, caller: Caller) -> Response:
        orders = _parse(request, settings)
        request.state.audit_object = shorten(" ".join(str(it.image) for it in orders))
        refused = _refused(orders, caller, grants)
        allowed = [order for order in orders if order not in refused]
        # in a thread, because a client that goes away must not stop it
        restored = iter((await asyncio.to_thread(run, allowed)).images)
        done = Restoration(tuple(refused.get(order) or next(restored) for order in orders))
        count = sum(it.restored for it in done.images)
        request.state.audit_outcome = f"restored {count} of {len(done.images)} images"
        return JSONResponse(wire.to_json(done))

    return [
        context.route("GET", paths.DELETED, show, Role.NONE, action="deleted images", registry_tokens=True),
        context.route(
            "POST",
            paths.RESTORE,
            post,
            Role.NONE,
            action="image restore",
            registry_tokens=True,
            audited=True,
        ),
    ]


def _refused(orders: Sequence[Order], caller: Caller, grants: Grants) -> dict[Order, RestoredImage]:
    """Return the answer to each order that the caller may not give. Raises NotAuthorized if these are all."""
    refused: dict[Order, RestoredImage] = {}
    for order in orders:
        try:
            caller.require_may("push", order.image.repository, grants)
        except NotAuthorized as error:
            if len(refused) + 1 == len(orders):
                raise
            refused[order] = RestoredImage(str(order.image), restored=False, error=str(error))
    return refused


def _parse(request: Request, settings: Settings) -> list[Order]:
    """Return what to restore. Raises UsageError."""
    texts = request.query_params.getlist("image_name_and_tag")
    tag = request.query_params.get("as", "")
    if not texts:
        raise UsageError(f"POST {paths.RESTORE}: image_name_and_tag=NAME:TAG is missing")
    if tag and len(texts) > 1:
        raise UsageError("as=TAG takes one image")
    if tag and not reference.is_tag(tag):
        raise InvalidReference(f"{shorten(tag)} is not a tag")
    images = dict.fromkeys(_image(text, settings) for text in texts)
    return [Order(image, tag) for image in images]


def _image(text: str, settings: Settings) -> ImageReference:
    image = reference.parse(text, settings.registry.addresses)
    if not image.tag and not image.digest:
        raise InvalidReference(f"{shorten(text)}: names no tag and no digest")
    return image
