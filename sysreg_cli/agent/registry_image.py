"""The registry_image calls of StarlingX's v1 API (docs/contracts.rst, "The agent's API"): list, tags, delete.

Starting a collection is in ``garbage/api.py``. Administrators see and delete everything; everybody else sees
in lists what the token server's grants let them pull, and what they may not pull looks like what isn't there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sysreg_cli import reference
from sysreg_cli.agent.context import AgentContext
from sysreg_cli.agent.identity import Caller, Role
from sysreg_cli.agent.parameters import flag
from sysreg_cli.agent.registry_access import local_registry
from sysreg_cli.errors import InvalidReference, UsageError
from sysreg_cli.reference import ImageReference
from sysreg_cli.registry.deletion import delete_image
from sysreg_cli.settings import Settings
from sysreg_cli.text import shorten
from sysreg_cli.tokens.grants import Grants, Identity

PATH = "/v1/registry_image"


def routes(context: AgentContext) -> list[Route]:
    """GET and DELETE of /v1/registry_image."""
    calls = _Calls(context.settings)
    return [
        context.route("GET", PATH, calls.show, Role.NONE, action="image list"),
        context.route("DELETE", PATH, calls.delete, Role.ADMIN, action="image delete"),
    ]


class _Calls:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._grants = Grants(settings.token_server)
        self._own_hosts = settings.registry.addresses

    async def show(self, request: Request, caller: Caller) -> Response:
        name = request.query_params.get("image_name")
        filtered = flag(request, "filter_out_untagged")
        if name is not None:
            image = self._parse(name, "image_name")
            if image.tag or image.digest:
                raise InvalidReference(f"{shorten(name)}: image_name takes no tag or digest")
            tags = await asyncio.to_thread(self._tags, caller, image.repository)
            return _images((image.repository, tag) for tag in tags)
        names = await asyncio.to_thread(self._names, caller, filtered)
        return _images((name, None) for name in names)

    async def delete(self, request: Request, _caller: Caller) -> Response:
        text = request.query_params.get("image_name_and_tag")
        if not text:
            raise UsageError(f"DELETE {PATH}: image_name_and_tag=NAME:TAG is missing")
        request.state.audit_object = shorten(text)
        image = self._parse(text, "image_name_and_tag")
        if not image.tag and not image.digest:
            raise InvalidReference(f"{shorten(text)}: names no tag")
        # A thread of its own: a client that goes away doesn't stop a delete between two requests.
        await asyncio.to_thread(self._delete, image)
        return Response(status_code=204)

    def _parse(self, text: str, parameter: str) -> ImageReference:
        if not text:
            raise UsageError(f"{parameter} is empty")
        return reference.parse(text, self._own_hosts)

    def _names(self, caller: Caller, filtered: bool) -> list[str]:
        with local_registry(self._settings) as registry:
            names = [name for name in registry.catalog() if self._may_pull(caller, name)]
            return registry.tagged(names) if filtered else names

    def _tags(self, caller: Caller, repository: str) -> list[str]:
        if not self._may_pull(caller, repository):
            return []
        with local_registry(self._settings) as registry:
            return registry.tags(repository)

    def _delete(self, image: ImageReference) -> None:
        with local_registry(self._settings) as registry:
            delete_image(registry, image)

    def _may_pull(self, caller: Caller, repository: str) -> bool:
        if caller.role >= Role.ADMIN:
            return True
        return "pull" in self._grants.actions(Identity(caller.name, caller.may_administer), repository)


def _images(entries: Iterable[tuple[str, str | None]]) -> Response:
    return JSONResponse({"registry_images": [{"name": name, "tag": tag} for name, tag in entries]})
