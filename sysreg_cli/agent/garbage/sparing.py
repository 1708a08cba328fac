"""Which deleted tags a collection spares, and which it makes irrecoverable. Pure."""

from __future__ import annotations

from collections.abc import Collection, Set

from sysreg_cli.agent.storage.deleted import DeletedTag, deleted_tags, is_restored, needs, why_lost
from sysreg_cli.agent.storage.snapshot import Repository, Snapshot


class DeletedTags:
    """The deleted tags of a storage that can be restored before a collection.

    Those whose delete was later than ``since``, in seconds since the epoch, are spared: ``blobs`` are what
    they need. So is the record of a tag whose manifests are untagged and stay: that of a prune.
    """

    def __init__(self, snapshot: Snapshot, since: float) -> None:
        self._snapshot = snapshot
        self._since = since
        self._tags: dict[str, list[DeletedTag]] = {}
        self.blobs: set[str] = set()
        self.repositories: set[str] = set()

    def add(self, repository: Repository) -> set[str]:
        """Add the tags of a repository. Return the manifests that it must keep."""
        found = [
            it
            for it in deleted_tags(self._snapshot, repository)
            if not is_restored(repository, it) and not why_lost(self._snapshot, repository, it)
        ]
        self._tags[repository.name] = found
        young = [it for it in found if it.at > self._since]
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
