"""What the plan has to know of each tag, from one reading of the storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sysreg_cli.agent.prune.plan import StoredImage
from sysreg_cli.agent.prune.rules import StoredTag
from sysreg_cli.agent.storage import layout
from sysreg_cli.agent.storage.repository import Repository
from sysreg_cli.agent.storage.snapshot import Snapshot


def stored_images(snapshot: Snapshot, is_wanted: Callable[[str], bool]) -> Iterator[StoredImage]:
    """Yield the wanted images, also those without a tag."""
    for repository in snapshot.repositories.values():
        if is_wanted(repository.name):
            tags = [_stored_tag(snapshot, repository, tag) for tag in repository.tags]
            yield StoredImage(repository.name, tags)


def _stored_tag(snapshot: Snapshot, repository: Repository, tag: str) -> StoredTag:
    digest = repository.tags[tag]
    manifests = _manifests(snapshot, digest)
    return StoredTag(
        tag,
        digest,
        snapshot.time(repository.name, layout.tag_link(tag)),
        frozenset(manifests),
        _problem(snapshot, repository, digest),
        tuple(it for it in manifests if it in repository.revisions),
    )


def _manifests(snapshot: Snapshot, digest: str) -> list[str]:
    """Return a manifest, then those that are reached from it through indexes."""
    found = {digest: None}
    pending = [digest]
    for digest in pending:
        manifest = snapshot.manifest(digest)
        children = [it for it in (manifest.children if manifest else ()) if it not in found]
        found.update(dict.fromkeys(children))
        pending += children
    return list(found)


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
