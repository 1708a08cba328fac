"""`system registry-image-list`, `registry-image-tags`, `registry-image-delete`."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from sysreg_cli.cli import global_options, hints
from sysreg_cli.cli.access import (
    AgentStorage,
    cache_owner,
    check_own_storage,
    is_configured,
    open_registry,
    own_hosts,
    parse_with_tag,
)
from sysreg_cli.cli.completion_cache import forget_tags, remember_names, remember_tags
from sysreg_cli.cli.invocation import Invocation
from sysreg_cli.cli.options import REGISTRY_VARIABLES, command
from sysreg_cli.cli.output import check_columns, check_list, say, show_list, show_report, size, time
from sysreg_cli.cli.restore import DELETED_COLUMNS, show_deleted
from sysreg_cli.errors import InvalidReference, NotAuthorized, NotFound, SysregError, UsageError
from sysreg_cli.reference import ImageReference, parse
from sysreg_cli.registry.client import CATALOG, RegistryClient

if TYPE_CHECKING:
    from sysreg_cli.registry.deletion import Deletion
    from sysreg_cli.v1.usage import UsageRow


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
        "restorable": deletion.recorded if deletion and not dry_run else None,
    }


LIST_COLUMNS = ("Image Name",)
LONG_LIST_COLUMNS = (*LIST_COLUMNS, "Tags", "Size", "Last Pushed")
TAG_COLUMNS = ("Image Tag",)
LONG_TAG_COLUMNS = (*TAG_COLUMNS, "Digest", "Size", "Unique", "Last Pushed")
DELETE_COLUMNS = tuple(_report(ImageReference("")))


@command(
    "registry-image-list",
    columns=tuple(dict.fromkeys([*LONG_LIST_COLUMNS, *DELETED_COLUMNS])),
    sorts=True,
    variables=[*REGISTRY_VARIABLES, "SYSREG_AGENT", "XDG_CACHE_HOME"],
    examples=[
        ("system registry-image-list", "Show the names of all images."),
        ("system registry-image-list --filter-out-untagged -f value", "Only tagged ones, for a script."),
        ("system registry-image-list --deleted", "Show the deleted tags that can be restored."),
        ("system registry-image-list --long --sort-column Size:desc", "Show the largest ones first."),
    ],
)
@click.option("--filter-out-untagged", is_flag=True, help="Only images that have at least one tag.")
@click.option("--long", "is_long", is_flag=True, help="Also show the tags, size and last push of each.")
@click.option("--deleted", is_flag=True, help="Instead show the tags that were deleted since a collection.")
@click.option("--nowrap", is_flag=True, help="Accepted for older scripts; nothing is ever wrapped.")
@click.pass_obj
def list_images(
    invocation: Invocation, filter_out_untagged: bool, is_long: bool, deleted: bool, nowrap: bool
) -> None:
    """List the images of the registry.

    Size, with --long, is what the tags of an image reach, each blob once. With --deleted, the rows are tags
    that registry-image-restore can bring back.
    """
    if deleted:
        if filter_out_untagged or is_long:
            raise UsageError("--deleted excludes --long and --filter-out-untagged")
        check_list(invocation, DELETED_COLUMNS)
        show_deleted(invocation)
        return
    columns = LONG_LIST_COLUMNS if is_long else LIST_COLUMNS
    check_list(invocation, columns)
    usage = _usage(invocation) if is_long else {}
    registry = open_registry(invocation)
    names = _stored_images(invocation, registry, filter_out_untagged)
    if names is None:
        names = _listed_images(invocation, registry)
        if owner := cache_owner(invocation):
            remember_names(owner, names, invocation.environ)
        if filter_out_untagged:
            names = registry.tagged(names)
    show_list(invocation, columns, [[name, *_long_cells(usage, name)][: len(columns)] for name in names])
    hints.registry_expiry(registry)


def _usage(invocation: Invocation, image: str = "") -> dict[str | None, UsageRow]:
    """Ask the agent what each image, or each tag of ``image``, takes.

    Raises NotSupported for another registry.
    """
    from sysreg_cli.cli.agent_client import AgentClient
    from sysreg_cli.v1.usage import Grouping

    check_own_storage(invocation)
    by = Grouping.TAG if image else Grouping.IMAGE
    rows = AgentClient.from_invocation(invocation, as_user=True).usage(by, image).rows
    return {row.name: row for row in rows}


def _long_cells(usage: Mapping[str | None, UsageRow], name: str) -> list[Any]:
    """Return the further columns of --long. An image that was pushed since the agent's reading has none."""
    row = usage.get(name)
    return [row.tags, size(row.size), time(row.last_pushed)] if row else [None] * 3


def _stored_images(
    invocation: Invocation, registry: RegistryClient, filter_out_untagged: bool
) -> list[str] | None:
    """Ask the agent for all images. Return None if the registry has to be asked.

    The agent reads them from the storage. The registry takes many times as long.
    """
    token = registry.token(CATALOG)
    with closing(AgentStorage(invocation, registry)) as storage:
        try:
            names = storage.images(token, filter_out_untagged=filter_out_untagged)
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
    columns=LONG_TAG_COLUMNS,
    sorts=True,
    variables=[*REGISTRY_VARIABLES, "SYSREG_AGENT", "XDG_CACHE_HOME"],
    examples=[
        ("system registry-image-tags docker.io/starlingx/app", "Show the tags of an image."),
        (
            "system registry-image-tags a -f value | sed s/^/a:/ | xargs system registry-image-delete",
            "Delete all tags of an image.",
        ),
    ],
)
@click.argument("image", metavar="IMAGE")
@click.option("--long", "is_long", is_flag=True, help="Also show the digest, sizes and push of each.")
@click.pass_obj
def list_tags(invocation: Invocation, image: str, is_long: bool) -> None:
    """List the tags of an image.

    If the image is not in the registry, the result is empty and the exit status 0. With --long, Size is what
    a tag reaches, and Unique what its delete and a collection free.
    """
    columns = LONG_TAG_COLUMNS if is_long else TAG_COLUMNS
    check_list(invocation, columns)
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
    usage = _usage(invocation, parsed.repository) if is_long and tags else {}
    show_list(invocation, columns, [[tag, *_long_tag_cells(usage, tag)][: len(columns)] for tag in tags])
    if not tags:
        hints.similar_image(registry, parsed)
    hints.registry_expiry(registry)


def _long_tag_cells(usage: Mapping[str | None, UsageRow], tag: str) -> list[Any]:
    row = usage.get(tag)
    return [row.digest, size(row.size), size(row.unique), time(row.last_pushed)] if row else [None] * 4


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

    An interrupted delete leaves every other tag whole; run it again to finish it. Until the next garbage
    collection, registry-image-restore undoes it.
    """
    from sysreg_cli.registry.deletion import delete_images

    check_columns(invocation, DELETE_COLUMNS)
    hosts = own_hosts(invocation)
    unique = list(dict.fromkeys(parse_with_tag(image, hosts) for image in images))
    registry = open_registry(invocation)
    # an interrupted delete says what is left, also if SIGTERM interrupts it
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with closing(AgentStorage(invocation, registry)) as storage:
        results = [
            (image, _say_outcome(invocation, registry, image, outcome, dry_run))
            for image, outcome in delete_images(
                registry, unique, all_tags=yes, dry_run=dry_run, storage=storage
            )
        ]
    show_report(invocation, [_report(image, deletion, dry_run=dry_run) for image, deletion in results])
    done = [deletion for _, deletion in results if deletion and not dry_run]
    hints.undo(done)
    hints.space(done)


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
    say(invocation, f"Image {image} {'would be ' if dry_run else ''}deleted{_notes(image, outcome, dry_run)}")
    return outcome


def _notes(image: ImageReference, deletion: Deletion, dry_run: bool) -> str:
    """Return the end of the line about a delete: the tags that a digest had, and warnings."""
    notes = [*deletion.warnings]
    if not deletion.recorded and not dry_run:
        notes.append("it cannot be restored")
    if image.digest and deletion.tags:
        notes.insert(0, f"with its tags {', '.join(deletion.tags)}")
    return f" ({'; '.join(notes)})" if notes else ""
