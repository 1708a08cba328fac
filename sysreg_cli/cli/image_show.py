"""`system registry-image-show`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from sysreg_cli.cli.access import address, is_configured, open_registry, own_hosts
from sysreg_cli.cli.invocation import Invocation
from sysreg_cli.cli.options import AGENT_VARIABLES, command
from sysreg_cli.cli.output import (
    Summarized,
    check_columns,
    counted,
    names,
    readable,
    show_properties,
    size,
    time,
)
from sysreg_cli.errors import (
    CredentialsMissing,
    InvalidReference,
    NotSupported,
    ProtocolError,
    SysregError,
    Unavailable,
)
from sysreg_cli.reference import ImageReference, parse, unknown_image
from sysreg_cli.v1 import wire
from sysreg_cli.v1.images import ImageDetails

#: how many images or tags a table names
_MOST = 10


def _properties(image: ImageDetails) -> dict[str, Any]:
    return {
        "image": image.image,
        "digest": image.digest,
        "media_type": image.media_type,
        "platforms": _platforms(image),
        "size": size(image.size),
        "unique": size(image.unique),
        "created": time(image.created) or image.created,
        "pushed": time(image.pushed),
        "labels": image.labels,
        "layers": _layers(image),
        "also_tagged": names(image.also_tagged, most=_MOST),
        "shares_layers_with": names(image.shares_layers_with, most=_MOST),
        "part_of": names(image.part_of, most=_MOST),
        "referrers": names(image.referrers, most=_MOST),
    }


def _platforms(image: ImageDetails) -> Summarized:
    shown = [it.name if it.stored else f"{it.name} (missing)" for it in image.platforms]
    return Summarized(map(wire.to_json, image.platforms), ", ".join(shown))


def _layers(image: ImageDetails) -> Summarized:
    total = readable(sum(layer.size for layer in image.layers))
    return Summarized(map(wire.to_json, image.layers), f"{counted(len(image.layers), 'layer')}, {total}")


_PROPERTIES = tuple(_properties(ImageDetails("", "")))
SHOW_COLUMNS = (*_PROPERTIES, "warnings")


@command(
    "registry-image-show",
    argument_help=[
        ("IMAGE:TAG", "The image, also with HOST:PORT/ of the registry in front, or IMAGE@DIGEST.")
    ],
    columns=SHOW_COLUMNS,
    variables=[*AGENT_VARIABLES, "SYSREG_REGISTRY", "XDG_CACHE_HOME"],
    examples=[
        ("system registry-image-show docker.io/starlingx/app:v1.0", "Show an image, and what it shares."),
        ("system registry-image-show app:v1 -f value -c unique", "Show what its delete would free."),
    ],
)
@click.argument("image", metavar="IMAGE:TAG")
@click.pass_obj
def show(invocation: Invocation, image: str) -> None:
    """Show an image, and what goes if it is deleted.

    Size is what the image reaches, each blob once. Unique is what only it reaches: that is what its delete
    and a collection free. Of a registry on another host only the image itself is known.
    """
    check_columns(invocation, SHOW_COLUMNS)
    parsed = parse(image, own_hosts(invocation))
    if not parsed.tag and not parsed.digest:
        raise InvalidReference(f"{image}: names no tag", next_step=f"give one, as in {image}:latest")
    details = _read(invocation, parsed)
    show_properties(invocation, _properties(details), warnings=details.warnings)


def _read(invocation: Invocation, image: ImageReference) -> ImageDetails:
    """Ask the agent, which reads the storage, or else the registry."""
    if not is_configured(invocation):
        return _ask_registry(
            invocation, image, f"{address(invocation)} is not the registry of this controller"
        )

    from sysreg_cli.cli.agent_client import AgentClient

    try:
        return AgentClient.from_invocation(invocation).image_details(str(image))
    except (NotSupported, Unavailable, ProtocolError) as error:
        try:
            return _ask_registry(invocation, image, str(error))
        except CredentialsMissing:
            raise error from None


def _ask_registry(invocation: Invocation, image: ImageReference, why: str) -> ImageDetails:
    """Return what the registry's API tells. ``why`` nothing else is known."""
    from sysreg_cli.registry.contents import read_contents
    from sysreg_cli.registry.manifests import RemoteManifest, UnreadableManifest

    registry = open_registry(invocation)
    root = registry.manifest(image)
    if root is None:
        raise unknown_image(image, registry.where, has_others=bool(registry.tags(image.repository)))
    if isinstance(root, UnreadableManifest):
        raise SysregError(f"{image}: {registry.where} cannot read its manifest", next_step="push it again")

    def manifest(digest: str) -> RemoteManifest | None:
        found = registry.manifest(replace(image, tag="", digest=digest))
        return found if isinstance(found, RemoteManifest) else None

    contents = read_contents(root, manifest, lambda _digest: None)
    return ImageDetails(
        image=str(image),
        digest=root.digest,
        media_type=root.media_type,
        platforms=contents.platforms,
        size=contents.size,
        created=contents.created,
        labels=contents.labels,
        layers=contents.layers,
        warnings=(f"what it shares, and what its delete frees, is not known: {why}",),
    )
