"""The registry_image calls of StarlingX's v1 API (docs/contracts.rst, "The agent's API"): list, tags, delete.

An administrator sees and deletes every image. Another user sees in lists what the token server's grants let
them pull; an image that they may not pull looks like one that does not exist. The call that starts a garbage
collection is in ``garbage/api.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sysreg_cli import reference
from sysreg_cli.agent.context import AgentContext
from sysreg_cli.agent.identity import Caller, Role
from sysreg_cli.agent.parameters import flag
from sysreg_cli.agent.registry_access import local_registry
from sysreg_cli.agent.storage import listings
from sysreg_cli.agent.storage.root import open_root
from sysreg_cli.agent.storage.tags import TagStorage
from sysreg_cli.errors import InvalidReference, NotAuthorized, SysregError, UsageError
from sysreg_cli.reference import ImageReference
from sysreg_cli.registry.deletion import delete_image
from sysreg_cli.settings import Settings
from sysreg_cli.text import shorten
from sysreg_cli.tokens.grants import Grants
from sysreg_cli.v1 import paths, wire
from sysreg_cli.v1.images import Image, Images, StoredTags


def routes(context: AgentContext) -> list[Route]:
    """Return the routes: list images or tags, delete; read and remove tags in the storage."""
    calls = _Calls(context.settings)
    path = paths.REGISTRY_IMAGE
    return [
        context.route("GET", path, calls.show, Role.NONE, action="image list", registry_tokens=True),
        context.route("DELETE", path, calls.delete, Role.ADMIN, action="image delete"),
        context.route(
            "GET", paths.STORED_TAGS, calls.stored_tags, Role.NONE, action="tag list", registry_tokens=True
        ),
        context.route(
            "DELETE",
            paths.STORED_TAGS,
            calls.remove_tags,
            Role.NONE,
            action="tag removal",
            registry_tokens=True,
            audited=True,
        ),
    ]


class _Calls:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._grants = Grants(settings.token_server)
        self._own_hosts = settings.registry.addresses
        self._storage = TagStorage(settings)

    async def show(self, request: Request, caller: Caller) -> Response:
        name = request.query_params.get("image_name")
        filtered = flag(request, "filter_out_untagged")
        if name is not None:
            repository = self._parse_name(name)
            tags = await asyncio.to_thread(self._tags, caller, repository)
            return _response(Image(repository, tag) for tag in tags)
        names = await asyncio.to_thread(self._names, caller, filtered)
        return _response(Image(name) for name in names)

    async def delete(self, request: Request, caller: Caller) -> Response:
        text = request.query_params.get("image_name_and_tag")
        if not text:
            raise UsageError(f"DELETE {paths.REGISTRY_IMAGE}: image_name_and_tag=NAME:TAG is missing")
        request.state.audit_object = shorten(text)
        image = self._parse(text, "image_name_and_tag")
        if not image.tag and not image.digest:
            raise InvalidReference(f"{shorten(text)}: names no tag")
        # in a thread, because a client that goes away must not stop a delete between two requests
        await asyncio.to_thread(self._delete, image, caller.name)
        return Response(status_code=204)

    async def stored_tags(self, request: Request, caller: Caller) -> Response:
        """Return the tags of an image in the storage. One that the caller may not pull has none."""
        repository = self._parse_name(request.query_params.get("image_name", ""))
        may_pull = self._may_pull(caller, repository)
        tags = await asyncio.to_thread(self._storage.tags, repository) if may_pull else {}
        return JSONResponse(wire.to_json(StoredTags(tags)))

    async def remove_tags(self, request: Request, caller: Caller) -> Response:
        """Remove a tag, or all tags of a manifest that the registry has deleted."""
        repository = self._parse_name(request.query_params.get("image_name", ""))
        tag, digest = request.query_params.get("tag"), request.query_params.get("digest", "")
        if not reference.is_digest(digest) and (digest or tag is None):
            raise UsageError(f"{shorten(digest)} is not a digest")
        if tag is not None and not reference.is_tag(tag):
            raise InvalidReference(f"{shorten(tag)} is not a tag")
        request.state.audit_object = f"{repository}:{tag}" if tag else f"{repository}@{digest}"
        caller.require_may("delete", repository, self._grants)
        if tag:
            await asyncio.to_thread(self._storage.remove_tag, repository, tag, digest)
        else:
            await asyncio.to_thread(self._storage.finish_delete, repository, digest)
        return Response(status_code=204)

    def _parse_name(self, name: str) -> str:
        image = self._parse(name, "image_name")
        if image.tag or image.digest:
            raise InvalidReference(f"{shorten(name)}: image_name takes no tag or digest")
        return image.repository

    def _parse(self, text: str, parameter: str) -> ImageReference:
        if not text:
            raise UsageError(f"{parameter} is empty")
        return reference.parse(text, self._own_hosts)

    def _names(self, caller: Caller, filtered: bool) -> list[str]:
        """Return the names that the caller sees, from the storage, or else from the registry.

        Raises NotAuthorized for a registry token that allows nothing, as a user gets for the catalog.
        """
        sees_all = caller.may_list_all(self._grants)
        if caller.access == ():
            raise NotAuthorized(f"the registry token of {caller.name} does not allow to list the images")

        def seen(names: list[str]) -> list[str]:
            return names if sees_all else [name for name in names if self._may_pull(caller, name)]

        with contextlib.suppress(SysregError), open_root(self._settings) as root:
            names = seen(listings.repositories(root))
            return [name for name in names if listings.has_tags(root, name)] if filtered else names
        with local_registry(self._settings) as registry:
            names = seen(registry.catalog())
            return registry.tagged(names) if filtered else names

    def _tags(self, caller: Caller, repository: str) -> list[str]:
        if not self._may_pull(caller, repository):
            return []
        with local_registry(self._settings) as registry:
            return registry.tags(repository)

    def _delete(self, image: ImageReference, by: str) -> None:
        with local_registry(self._settings) as registry:
            delete_image(registry, image, storage=self._storage, by=by)

    def _may_pull(self, caller: Caller, repository: str) -> bool:
        return caller.may_pull(repository, self._grants)


def _response(images: Iterable[Image]) -> Response:
    return JSONResponse(wire.to_json(Images(tuple(images))))
