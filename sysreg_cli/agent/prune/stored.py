"""What the plan has to know of each tag, from one reading of the storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sysreg_cli.agent.prune.plan import StoredImage
from sysreg_cli.agent.prune.rules import StoredTag
from sysreg_cli.agent.storage import layout
from sysreg_cli.agent.storage.snapshot import Repository, Snapshot


def stored_images(snapshot: Snapshot, is_wanted: Callable[[str], bool]) -> Iterator[StoredImage]:
    """Yield the wanted images that have tags."""
    for repository in snapshot.repositories.values():
        if repository.tags and is_wanted(repository.name):
            tags = [_stored_tag(snapshot, repository, tag) for tag in repository.tags]
            yield StoredImage(repository.name, tags)


def _stored_tag(snapshot: Snapshot, repository: Repository, tag: str) -> StoredTag:
    digest = repository.tags[tag]
    return StoredTag(
        tag,
        digest,
        snapshot.time(repository.name, layout.tag_link(tag)),
        frozenset(_manifests(snapshot, digest)),
        _problem(snapshot, repository, digest),
    )


def _manifests(snapshot: Snapshot, digest: str) -> set[str]:
    """Return the manifests that are reached from one through indexes, itself included."""
    found: set[str] = set()
    pending = [digest]
    while pending:
        digest = pending.pop()
        if digest not in found:
            found.add(digest)
            manifest = snapshot.manifest(digest)
            pending.extend(manifest.children if manifest else ())
    return found


def _problem(snapshot: Snapshot, repository: Repository, digest: str) -> str:
    """Return why the image of a tag is not known, "" if it is."""
    if not digest:
        return "the link of the tag is damaged"
    if digest in repository.broken:
        return "the link of its manifest is damaged"
    if digest not in repository.revisions or digest not in snapshot.blobs:
        return "its manifest is missing"
    manifest = snapshot.manifest(digest)
    if manifest is None:
        return "its manifest is damaged"
    return "" if manifest.references else "its manifest names nothing: its delete may not have ended"
