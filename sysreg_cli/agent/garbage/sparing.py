"""Which deleted tags a collection spares, and which it makes irrecoverable."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set

from sysreg_cli.agent.storage.deleted import DeletedTag, deleted_tags, is_restored, needs, why_lost
from sysreg_cli.agent.storage.repository import Repository
from sysreg_cli.agent.storage.snapshot import Snapshot


def restorable(snapshot: Snapshot) -> dict[str, list[DeletedTag]]:
    """Map each repository to its deleted tags that can be restored."""
    return {
        name: [
            it
            for it in deleted_tags(snapshot, repository)
            if not is_restored(repository, it) and not why_lost(snapshot, repository, it)
        ]
        for name, repository in snapshot.repositories.items()
    }


class DeletedTags:
    """The deleted ``tags`` of a storage that can be restored before a collection.

    Those whose delete was later than ``since``, in seconds since the epoch, are spared: ``blobs`` are what
    they need. So is the record of a tag whose manifests are untagged and stay: that of a prune.
    """

    def __init__(self, snapshot: Snapshot, tags: Mapping[str, Sequence[DeletedTag]], since: float) -> None:
        self._snapshot = snapshot
        self._since = since
        self._tags = tags
        self.blobs: set[str] = set()
        self.repositories: set[str] = set()

    def spare_young(self, repository: Repository) -> set[str]:
        """Spare the tags of a repository that were deleted lately. Return the manifests that it must keep."""
        # by the clock of this host: that of a client may be wrong
        young = [it for it in self._tags[repository.name] if it.written > self._since]
        for deleted in young:
            self._spare(deleted)
        return {digest for it in young for digest in it.manifests}

    def keep_untagged(self, repository: Repository, tagged: Set[str], unlinked: Collection[str]) -> None:
        """Spare the tags of a repository whose manifests stay there although none is ``tagged``."""
        stay = repository.revisions.difference(unlinked)
        for deleted in self._tags[repository.name]:
            if deleted.root not in tagged and stay.issuperset(deleted.manifests):
                self._spare(deleted)

    def _spare(self, deleted: DeletedTag) -> None:
        self.blobs |= needs(self._snapshot, deleted)
        self.repositories.add(deleted.repository)

    def lost_without(self, blobs: Set[str]) -> dict[str, frozenset[str]]:
        """Map each tag (NAME:TAG@DIGEST) that cannot be restored without ``blobs`` to those that it needs."""
        tags = (it for found in self._tags.values() for it in found)
        found = {f"{it}@{it.root}": needs(self._snapshot, it) & blobs for it in tags}
        return {name: frozenset(needed) for name, needed in sorted(found.items()) if needed}
