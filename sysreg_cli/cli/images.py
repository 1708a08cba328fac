"""`system registry-image-list`, `registry-image-tags`, `registry-image-delete`."""

from __future__ import annotations

import signal
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import click

from sysreg_cli.cli import global_options, hints
from sysreg_cli.cli.access import AgentStorage, cache_owner, is_configured, open_registry, own_hosts
from sysreg_cli.cli.completion_cache import forget_tags, remember_names, remember_tags
from sysreg_cli.cli.invocation import Invocation
from sysreg_cli.cli.options import REGISTRY_VARIABLES, command
from sysreg_cli.cli.output import check_columns, check_list, say, show_list, show_report
from sysreg_cli.errors import InvalidReference, NotAuthorized, NotFound, SysregError
from sysreg_cli.reference import ImageReference, parse
from sysreg_cli.registry.client import CATALOG, RegistryClient

if TYPE_CHECKING:
    from sysreg_cli.registry.deletion import Deletion


def _report(
    image: ImageReference, deletion: Deletion | None = None, *, dry_run: bool = False
) -> dict[str, Any]:
    """Return what the formats for scripts show of one image; None: it was not deleted."""
    return {
        "image": str(image),
        "deleted": deletion is not None and not dry_run,
        "digest": deletion.digest if deletion else image.digest,
        "tags": deletion.tags if deletion else (),
        "manifests": deletion.manifests if deletion else (),
        "warnings": deletion.warnings if deletion else (),
    }


LIST_COLUMNS = ("Image Name",)
TAG_COLUMNS = ("Image Tag",)
DELETE_COLUMNS = tuple(_report(ImageReference("")))


@command(
    "registry-image-list",
    columns=LIST_COLUMNS,
    sorts=True,
    variables=[*REGISTRY_VARIABLES, "SYSREG_AGENT", "XDG_CACHE_HOME"],
    examples=[
        ("system registry-image-list", "Show the names of all images."),
        ("system registry-image-list --filter-out-untagged -f value", "Only tagged ones, for a script."),
    ],
)
@click.option("--filter-out-untagged", is_flag=True, help="Only images that have at least one tag.")
@click.option("--nowrap", is_flag=True, help="Accepted for older scripts; nothing is ever wrapped.")
@click.pass_obj
def list_images(invocation: Invocation, filter_out_untagged: bool, nowrap: bool) -> None:
    """List the images of the registry."""
    check_list(invocation, LIST_COLUMNS)
    registry = open_registry(invocation)
    names = _stored_images(invocation, registry, filter_out_untagged)
    if names is None:
        names = _listed_images(invocation, registry)
        if owner := cache_owner(invocation):
            remember_names(owner, names, invocation.environ)
        if filter_out_untagged:
            names = registry.tagged(names)
    show_list(invocation, LIST_COLUMNS, [[name] for name in names])
    hints.registry_expiry(registry)


def _stored_images(
    invocation: Invocation, registry: RegistryClient, filter_out_untagged: bool
) -> list[str] | None:
    """Ask the agent for all images. Return None if the registry has to be asked.

    The agent reads them from the storage. The registry takes many times as long.
    """
    token = registry.token(CATALOG)
    try:
        names = AgentStorage(invocation, registry).images(token, filter_out_untagged=filter_out_untagged)
    except SysregError:
        return None
    if not filter_out_untagged and (owner := cache_owner(invocation)):
        remember_names(owner, names, invocation.environ)
    return names


def _listed_images(invocation: Invocation, registry: RegistryClient) -> list[str]:
    """Ask the registry for all images, or the agent for those that the user may pull."""
    try:
        return registry.catalog()
    except NotAuthorized:
        # the agent of this machine cannot answer for another registry
        if not is_configured(invocation) and not invocation.text(global_options.AGENT):
            raise
        return _permitted_images(invocation, registry.where)


def _permitted_images(invocation: Invocation, where: str) -> list[str]:
    """Ask the agent what this user may pull: the registry lists all images to an administrator only."""
    from sysreg_cli.cli.agent_client import AgentClient

    try:
        images = AgentClient.from_invocation(invocation, as_user=True).images()
    except SysregError as error:
        raise NotAuthorized(
            f"{where}: only an administrator may list all images, and yours were not found out: {error}",
            next_step="system registry-image-tags shows the tags of an image that you may pull",
        ) from error
    return [image.name for image in images.registry_images]


@command(
    "registry-image-tags",
    argument_help=[("IMAGE", "Name of the image, as registry-image-list shows it.")],
    columns=TAG_COLUMNS,
    sorts=True,
    variables=[*REGISTRY_VARIABLES, "XDG_CACHE_HOME"],
    examples=[
        ("system registry-image-tags docker.io/starlingx/app", "Show the tags of an image."),
        (
            "system registry-image-tags a -f value | sed s/^/a:/ | xargs system registry-image-delete",
            "Delete all tags of an image.",
        ),
    ],
)
@click.argument("image", metavar="IMAGE")
@click.pass_obj
def list_tags(invocation: Invocation, image: str) -> None:
    """List the tags of an image.

    If the image is not in the registry, the result is empty and the exit status 0.
    """
    check_list(invocation, TAG_COLUMNS)
    parsed = parse(image, own_hosts(invocation))
    if parsed.tag or parsed.digest:
        raise InvalidReference(
            f"{image}: has a tag or a digest, and this command takes only the name of an image",
            next_step=f"try {parsed.repository}",
        )
    registry = open_registry(invocation)
    tags = registry.tags(parsed.repository)
    if owner := cache_owner(invocation):
        remember_tags(owner, parsed.repository, tags, invocation.environ)
    show_list(invocation, TAG_COLUMNS, [[tag] for tag in tags])
    if not tags:
        hints.similar_image(registry, parsed)
    hints.registry_expiry(registry)


@command(
    "registry-image-delete",
    argument_help=[
        (
            "IMAGE:TAG...",
            "The tags to delete, also with HOST:PORT/ of the registry in front, or IMAGE@DIGEST.",
        )
    ],
    columns=DELETE_COLUMNS,
    variables=[*REGISTRY_VARIABLES, "XDG_CACHE_HOME"],
    examples=[
        ("system registry-image-delete docker.io/starlingx/app:v1.0", "Delete one tag, and no other."),
        ("system registry-image-delete --dry-run app:v1 app:v2", "Say what would be deleted."),
        ("system registry-garbage-collect", "Free the space afterwards."),
    ],
)
@click.argument("images", metavar="IMAGE:TAG...", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@click.option("--yes", is_flag=True, help="Delete a digest even if several tags stand for it.")
@click.pass_obj
def delete(invocation: Invocation, images: tuple[str, ...], dry_run: bool, yes: bool) -> None:
    """Delete tags of images.

    Deletes each IMAGE:TAG and nothing else: other tags of the same image stay. The image itself, with all its
    platforms, is deleted with its last tag. IMAGE@sha256:... deletes an image with the tag on it.

    An interrupted delete leaves every other tag whole; run it again to finish it.
    """
    from sysreg_cli.registry.deletion import delete_images

    check_columns(invocation, DELETE_COLUMNS)
    hosts = own_hosts(invocation)
    unique = list(dict.fromkeys(_parse_with_tag(image, hosts) for image in images))
    registry = open_registry(invocation)
    # an interrupted delete says what is left, also if SIGTERM interrupts it
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results = [
        (image, _say_outcome(invocation, registry, image, outcome, dry_run))
        for image, outcome in delete_images(
            registry, unique, all_tags=yes, dry_run=dry_run, storage=AgentStorage(invocation, registry)
        )
    ]
    show_report(invocation, [_report(image, deletion, dry_run=dry_run) for image, deletion in results])
    hints.space(deletion for _, deletion in results if deletion and not dry_run)


def _parse_with_tag(text: str, hosts: Collection[str]) -> ImageReference:
    image = parse(text, hosts)
    if not image.tag and not image.digest:
        raise InvalidReference(f"{text}: names no tag", next_step=f"give one, as in {text}:latest")
    return image


def _say_outcome(
    invocation: Invocation,
    registry: RegistryClient,
    image: ImageReference,
    outcome: Deletion | SysregError,
    dry_run: bool,
) -> Deletion | None:
    """Report what became of one image. Return None if it was not deleted."""
    if isinstance(outcome, SysregError):
        invocation.report(outcome)
        if isinstance(outcome, NotFound):
            hints.similar_image(registry, image)
        return None
    if not dry_run and (owner := cache_owner(invocation)):
        forget_tags(owner, image.repository, invocation.environ)
    say(invocation, f"Image {image} {'would be ' if dry_run else ''}deleted{_notes(image, outcome)}")
    return outcome


def _notes(image: ImageReference, deletion: Deletion) -> str:
    """Return the end of the line about a delete: the tags that a digest had, and warnings."""
    notes = [*deletion.warnings]
    if image.digest and deletion.tags:
        notes.insert(0, f"with its tags {', '.join(deletion.tags)}")
    return f" ({'; '.join(notes)})" if notes else ""
