"""`system registry-image-restore`, and the deleted tags for `registry-image-list --deleted`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sysreg_cli.cli.access import cache_owner, check_own_storage, open_registry, own_hosts, parse_with_tag
from sysreg_cli.cli.completion_cache import forget_tags
from sysreg_cli.cli.invocation import Invocation
from sysreg_cli.cli.options import REGISTRY_VARIABLES, command
from sysreg_cli.cli.output import check_columns, counted, say, show_list, show_report, time
from sysreg_cli.errors import ProtocolError, SysregError, UsageError
from sysreg_cli.reference import is_tag
from sysreg_cli.registry.client import CATALOG, changes
from sysreg_cli.text import shorten
from sysreg_cli.tokens.claims import claims
from sysreg_cli.v1.restore import DeletedTags, RestoredImage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sysreg_cli.reference import ImageReference

# The agent takes 64 KiB as the head of a request, and a token some dozen repositories.
_MAX_QUERY, _MAX_REPOSITORIES = 30_000, 32
# characters of the query beside a name, in which some need three
_PARAMETER = 30

DELETED_COLUMNS = ("Deleted Tag", "Digest", "Deleted At", "Deleted By", "State", "Reason")


def _report(image: RestoredImage) -> dict[str, Any]:
    """Return what the formats for scripts show of one image."""
    return {
        "image": image.image,
        "restored": image.restored,
        "digest": image.digest,
        "tags": image.tags,
        "manifests": image.manifests,
        "warnings": image.warnings,
    }


RESTORE_COLUMNS = tuple(_report(RestoredImage("", restored=False)))


@command(
    "registry-image-restore",
    argument_help=[
        (
            "IMAGE:TAG...",
            "The deleted tags, as registry-image-list --deleted shows them, or IMAGE@DIGEST.",
        )
    ],
    columns=RESTORE_COLUMNS,
    variables=[*REGISTRY_VARIABLES, "SYSREG_AGENT", "XDG_CACHE_HOME"],
    examples=[
        ("system registry-image-list --deleted", "Show what can be restored."),
        ("system registry-image-restore docker.io/starlingx/app:v1.0", "Undo the delete of a tag."),
        ("system registry-image-restore app:v1 --as v1-old", "Restore it under another tag."),
        (
            "system registry-image-list --deleted -f value -c deleted_tag"
            " | xargs system registry-image-restore",
            "Restore everything that was deleted.",
        ),
    ],
)
@click.argument("images", metavar="IMAGE:TAG...", nargs=-1)
@click.option("--as", "as_tag", metavar="TAG", help="Restore one image under this tag.")
@click.pass_obj
def restore(invocation: Invocation, images: tuple[str, ...], as_tag: str | None) -> None:
    """Undo the delete of tags of images.

    Brings back what each IMAGE:TAG stood for at its last delete, byte for byte. IMAGE@sha256:... brings back
    all tags of that image that one delete took.

    This is possible until the next garbage collection. These deletes leave no record and cannot be undone:
    those of other programs, such as docker and skopeo, those of a digest without a tag, those in a
    distribution 3 registry, and some on a full disk.
    """
    check_columns(invocation, RESTORE_COLUMNS)
    parsed = _parse(invocation, images, as_tag)
    check_own_storage(invocation)

    from sysreg_cli.cli.agent_client import AgentClient
    from sysreg_cli.cli.agent_connection import is_peer

    registry = None if is_peer(invocation) else open_registry(invocation)
    agent = AgentClient.from_invocation(invocation)
    outcomes: list[RestoredImage] = []
    try:
        for batch in _batches(parsed):
            names = dict.fromkeys(image.repository for image in batch)
            token = registry.token(*map(changes, names)) if registry else ""
            restored = agent.restore([str(image) for image in batch], as_tag or "", token).images
            if len(restored) != len(batch):
                raise ProtocolError(
                    f"the agent answered for {len(restored)} of {counted(len(batch), 'image')}"
                )
            for image, outcome in zip(batch, restored, strict=True):
                _say_outcome(invocation, image, outcome)
            outcomes += restored
    finally:
        if outcomes:
            show_report(invocation, [_report(outcome) for outcome in outcomes])


def _batches(images: Sequence[ImageReference]) -> Iterator[list[ImageReference]]:
    """Yield the images in parts, each for one call of the agent."""
    batch: list[ImageReference] = []
    for image in images:
        names = {it.repository for it in batch}
        is_long = sum(len(str(it)) + _PARAMETER for it in batch) > _MAX_QUERY
        if is_long or (len(names) == _MAX_REPOSITORIES and image.repository not in names):
            yield batch
            batch = []
        batch.append(image)
    yield batch


def _parse(invocation: Invocation, images: Sequence[str], as_tag: str | None) -> list[ImageReference]:
    if not images:
        raise UsageError("no image was given", next_step="see system registry-image-list --deleted")
    parsed = [parse_with_tag(image, own_hosts(invocation)) for image in dict.fromkeys(images)]
    parsed = list(dict.fromkeys(parsed))
    if as_tag is not None and not is_tag(as_tag):
        raise UsageError(f"--as: {shorten(as_tag)} is not a tag")
    if as_tag is not None and len(parsed) > 1:
        raise UsageError("--as takes one image")
    return parsed


def _say_outcome(invocation: Invocation, image: ImageReference, restored: RestoredImage) -> None:
    if not restored.restored:
        invocation.report(SysregError(restored.error))
        return
    if owner := cache_owner(invocation):
        forget_tags(owner, image.repository, invocation.environ)
    others = [tag for tag in restored.tags if tag != image.tag]
    notes = [f"as {', '.join(others)}"] if others else []
    notes += restored.warnings
    end = f" ({'; '.join(notes)})" if notes else ""
    say(invocation, f"Image {image} restored{end}")


def show_deleted(invocation: Invocation) -> None:
    """Show the deleted tags of the images that the caller may pull."""
    check_own_storage(invocation)
    rows = [
        (it.image, it.digest, time(it.deleted_at), it.deleted_by or None, it.state, it.reason or None)
        for it in _deleted_tags(invocation).deleted
    ]
    show_list(invocation, DELETED_COLUMNS, rows)


def _deleted_tags(invocation: Invocation) -> DeletedTags:
    from sysreg_cli.cli.agent_client import AgentClient
    from sysreg_cli.cli.agent_connection import is_peer

    agent = AgentClient.from_invocation(invocation)
    token = "" if is_peer(invocation) else open_registry(invocation).token(CATALOG)
    # Only an administrator gets one that allows something. Others need a Keystone token.
    return agent.deleted_tags(token if claims(token).get("access") else "")
