"""`system registry-image-list`, `registry-image-tags`, `registry-image-delete`."""

from __future__ import annotations

import signal
from typing import Any

import click

from sysreg_cli.cli import hints
from sysreg_cli.cli.access import identity, is_own, open_registry, own_hosts
from sysreg_cli.cli.completion_cache import forget_tags, remember_names, remember_tags
from sysreg_cli.cli.options import Invocation, command
from sysreg_cli.cli.output import check_columns, say, show_list, show_report
from sysreg_cli.errors import InvalidReference, NotAuthorized, NotFound, ProtocolError, SysregError
from sysreg_cli.reference import ImageReference, parse
from sysreg_cli.registry.deletion import Deletion, delete_image

DELETE_COLUMNS = ("image", "deleted", "digest", "tags", "manifests", "warnings")


@command("registry-image-list", output=True)
@click.option("--filter-out-untagged", is_flag=True, help="Only images that have at least one tag.")
@click.option("--nowrap", is_flag=True, help="Accepted for older scripts; nothing is ever wrapped.")
@click.pass_obj
def list_images(invocation: Invocation, filter_out_untagged: bool, nowrap: bool) -> None:
    """List the images of the registry."""
    registry = open_registry(invocation)
    try:
        names = registry.catalog()
    except NotAuthorized:
        # The images of this machine's agent are no answer to who asked another registry.
        if not is_own(invocation) and not invocation.text("agent"):
            raise
        names = _own_images(invocation, registry.where)
    if (owner := identity(invocation)) is not None:
        remember_names(owner, names, invocation.environ)
    if filter_out_untagged:
        names = registry.tagged(names)
    show_list(invocation, ["Image Name"], [[name] for name in names])
    hints.registry_expiry(registry)


def _own_images(invocation: Invocation, where: str) -> list[str]:
    """What a user who is no administrator may pull: the registry doesn't say it, the agent does."""
    from sysreg_cli.cli.agent_client import AgentClient

    try:
        answer = AgentClient.from_environment(invocation, as_user=True).fetch("GET", "/v1/registry_image")
    except SysregError as error:
        raise NotAuthorized(
            f"{where}: only an administrator may list all images, and yours were not found out: {error}",
            next_step="system registry-image-tags shows the tags of an image that you may pull",
        ) from error
    try:
        return [str(entry["name"]) for entry in answer["registry_images"]]
    except (KeyError, TypeError):
        raise ProtocolError("the agent's list of images makes no sense") from None


@command("registry-image-tags", output=True)
@click.argument("image", metavar="IMAGE")
@click.pass_obj
def list_tags(invocation: Invocation, image: str) -> None:
    """List the tags of an image.

    An image that is not in the registry has none: the result is empty, and the exit status 0.
    """
    wanted = parse(image, own_hosts(invocation))
    if wanted.tag or wanted.digest:
        raise InvalidReference(
            f"{image}: an image name without tag or digest is wanted", next_step=f"try {wanted.repository}"
        )
    registry = open_registry(invocation)
    tags = registry.tags(wanted.repository)
    if (owner := identity(invocation)) is not None:
        remember_tags(owner, wanted.repository, tags, invocation.environ)
    show_list(invocation, ["Image Tag"], [[tag] for tag in tags])
    if not tags:
        hints.near_image(registry, wanted)
    hints.registry_expiry(registry)


@command("registry-image-delete", output=True)
@click.argument("images", metavar="IMAGE:TAG...", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@click.option("--yes", is_flag=True, help="Delete a digest even if several tags stand for it.")
@click.pass_obj
def delete(invocation: Invocation, images: tuple[str, ...], dry_run: bool, yes: bool) -> None:
    """Delete tags of images.

    Each IMAGE:TAG is deleted and nothing else: other tags of the same image stay. The image itself, with all
    its platforms, goes with its last tag. IMAGE@sha256:... deletes an image with the tag on it.

    A delete that was cut short leaves every other tag whole; run it again to finish it.
    """
    check_columns(invocation, DELETE_COLUMNS)
    hosts = own_hosts(invocation)
    wanted = list(dict.fromkeys(_with_tag(image, hosts) for image in images))
    registry = open_registry(invocation)
    # Like Ctrl-C: what ends a delete half way shall say so.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results: list[dict[str, Any]] = []
    deletions: list[Deletion] = []
    for image in wanted:
        try:
            deletion = delete_image(registry, image, all_tags=yes, dry_run=dry_run)
        except SysregError as error:
            invocation.report(error)
            if isinstance(error, NotFound):
                hints.near_image(registry, image)
            results.append(_result(image, Deletion(image.digest, (), ()), deleted=False))
        else:
            results.append(_result(image, deletion, deleted=not dry_run))
            if not dry_run:
                deletions.append(deletion)
                if (owner := identity(invocation)) is not None:
                    forget_tags(owner, image.repository, invocation.environ)
            say(invocation, f"Image {image} {'would be ' if dry_run else ''}deleted{_also(image, deletion)}")
    show_report(invocation, results)
    hints.space(deletions)


def _with_tag(text: str, hosts: Any) -> ImageReference:
    image = parse(text, hosts)
    if not image.tag and not image.digest:
        raise InvalidReference(f"{text}: names no tag", next_step=f"give one, as in {text}:latest")
    return image


def _also(image: ImageReference, deletion: Deletion) -> str:
    notes = [*deletion.warnings]
    if image.digest and deletion.tags:
        notes.insert(0, f"with its tags {', '.join(deletion.tags)}")
    return f" ({'; '.join(notes)})" if notes else ""


def _result(image: ImageReference, deletion: Deletion, *, deleted: bool) -> dict[str, Any]:
    return {
        "image": str(image),
        "deleted": deleted,
        "digest": deletion.digest,
        "tags": list(deletion.tags),
        "manifests": list(deletion.manifests),
        "warnings": list(deletion.warnings),
    }
