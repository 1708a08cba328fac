"""Finds the tags that were deleted, and whether they can be restored. Reads a snapshot.

A delete moves its tags to a placeholder manifest, and deletes that at last (docs/architecture.rst, "A
delete"). The registry then leaves the directory of its link in the repository, and its blob until a
collection. So the placeholder is the record of the delete. Of each deleted manifest the same is left, which
proves that the repository had it. A record alone proves nothing: whoever may push can write one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sysreg_cli.agent.storage.repository import Repository
from sysreg_cli.agent.storage.snapshot import Snapshot
from sysreg_cli.registry.manifests import OCI_INDEX, PLACEHOLDER_MARK, RemoteManifest


@dataclass(frozen=True, slots=True)
class DeletedTag:
    """A tag that was deleted, or whose delete has not ended.

    ``record`` is the digest of the placeholder. ``manifests`` are what the tag stood for, the root first,
    then the platforms of indexes. ``at`` is when it was deleted, by the record and the file, whichever says
    earlier; ``written`` is when the record was stored by the clock of this host. Both are seconds since the
    epoch. ``by`` is what the record says.
    """

    repository: str
    tag: str
    record: str
    manifests: tuple[str, ...]
    at: float
    by: str = ""
    written: float = 0.0

    @property
    def root(self) -> str:
        return self.manifests[0]

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}"


def deleted_tags(snapshot: Snapshot, repository: Repository) -> list[DeletedTag]:
    """Return the tags of a repository that a record names, the latest delete first.

    Also those that were restored, or pushed again.
    """
    found = list(_deleted_tags(snapshot, repository))
    return sorted(found, key=lambda it: (-it.at, it.record, it.tag))


def _deleted_tags(snapshot: Snapshot, repository: Repository) -> Iterator[DeletedTag]:
    for digest in _candidates(snapshot, repository):
        content = snapshot.content(digest)
        record = RemoteManifest(OCI_INDEX, content).delete_record if PLACEHOLDER_MARK in content else None
        if record is not None:
            # The file tells the time by the clock of this host; a backup that was restored makes it later.
            written = snapshot.blobs[digest].time
            at = written if record.at is None else min(record.at, written)
            for tag, manifests in record.tags.items():
                yield DeletedTag(repository.name, tag, digest, manifests, at, record.by, written)


def _candidates(snapshot: Snapshot, repository: Repository) -> Iterator[str]:
    """Yield the manifests that may be records: deleted ones, and tagged ones that may name nothing."""
    for digest in repository.unlinked.union(repository.tags.values()) & snapshot.blobs.keys():
        # To parse a manifest takes longer than to read it.
        known = snapshot.manifests.get(digest)
        if known is None or not known.references:
            yield digest


def is_restored(repository: Repository, deleted: DeletedTag) -> bool:
    """Whether the tag stands for what it stood for before its delete."""
    return repository.tags.get(deleted.tag) == deleted.root and deleted.root in repository.revisions


def why_lost(snapshot: Snapshot, repository: Repository, deleted: DeletedTag) -> str:
    """Return what is missing for a restore, "" if all is stored."""
    layers: set[str] = set()
    for digest in deleted.manifests:
        manifest = snapshot.manifest(digest)
        is_known = digest in repository.revisions or digest in repository.unlinked
        if not is_known or digest not in snapshot.blobs:
            return f"manifest {digest} is not stored any more"
        if manifest is None:
            return f"manifest {digest} is damaged"
        for blob, size in zip(manifest.blobs, manifest.sizes, strict=True):
            if blob not in snapshot.blobs:
                return f"blob {blob} is not stored any more"
            if snapshot.blobs[blob].size != size and size >= 0:
                return f"blob {blob} is damaged"
        layers.update(manifest.blobs)
    broken = snapshot.broken_layers(repository, sorted(layers.difference(deleted.manifests)))
    return next((f"blob {blob} is {problem}" for blob, problem in broken), "")


def needs(snapshot: Snapshot, deleted: DeletedTag) -> set[str]:
    """Return the stored blobs without which the tag cannot be restored, with its record and its manifests."""
    found = {deleted.record, *deleted.manifests}
    for digest in deleted.manifests:
        if manifest := snapshot.manifest(digest):
            found.update(manifest.references)
    return found & snapshot.blobs.keys()
