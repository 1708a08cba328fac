"""Finds who needs a manifest or blob in one repository: tags, and referrers such as signatures."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from sysreg_cli.agent.storage.repository import Repository
from sysreg_cli.agent.storage.snapshot import Snapshot


class Reach:
    """What reaches what, among ``manifests`` of a repository."""

    def __init__(self, snapshot: Snapshot, repository: Repository, manifests: Iterable[str]) -> None:
        self._parents: dict[str, set[str]] = {}
        self._subjects: dict[str, set[str]] = {}
        self._tags: dict[str, list[str]] = {}
        for digest in manifests:
            if (manifest := snapshot.manifest(digest)) is None:
                continue
            for child in (*manifest.children, *manifest.blobs):
                self._parents.setdefault(child, set()).add(digest)
            if manifest.subject:
                self._subjects[digest] = {manifest.subject}
        for tag, digest in repository.tags.items():
            if digest:
                self._tags.setdefault(digest, []).append(tag)

    def tags(self, digests: Iterable[str]) -> tuple[str, ...]:
        """Return the tags that reach one of the manifests or blobs, sorted. Not through a referrer."""
        return self._names(_climb(digests, self._parents))

    def referrers(self, digests: Iterable[str]) -> tuple[str, ...]:
        """Return the untagged referrers that reach one of the manifests or blobs, sorted."""
        found = _climb(digests, self._parents) & self._subjects.keys()
        return tuple(sorted(found - self._tags.keys()))

    def subjects(self, referrers: Iterable[str]) -> tuple[str, ...]:
        """Return the tags whose images the referrers refer to, sorted, also through other referrers."""
        reached = _climb(referrers, self._subjects)
        while (more := _climb(reached, self._parents) | _climb(reached, self._subjects)) != reached:
            reached = more
        return self._names(reached)

    def _names(self, roots: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted({tag for root in roots for tag in self._tags.get(root, ())}))


def _climb(digests: Iterable[str], parents: Mapping[str, Collection[str]]) -> set[str]:
    """Return the digests and everything that leads to them."""
    found: set[str] = set()
    pending = list(digests)
    while pending:
        digest = pending.pop()
        if digest not in found:
            found.add(digest)
            pending.extend(parents.get(digest, ()))
    return found
