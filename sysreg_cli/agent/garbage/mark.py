"""Finds what the tags of a storage need, and what the registry's own collector would keep. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from sysreg_cli.agent.garbage.snapshot import Repository, Snapshot


class Marks:
    """The manifests and blobs that are needed in one repository, and descriptions of what is damaged.

    ``blobs`` includes the manifests. Each repository has marks of its own, because the registry serves a
    manifest only from a repository that links it.
    """

    def __init__(self, snapshot: Snapshot, repository: Repository) -> None:
        self.manifests: set[str] = set()
        self.blobs: set[str] = set()
        self.problems: list[str] = []
        self._snapshot = snapshot
        self._repository = repository

    @classmethod
    def of_tags(cls, snapshot: Snapshot, repository: Repository) -> Marks:
        """Follow each tag through indexes and referrers."""
        marks = cls(snapshot, repository)
        for tag, digest in sorted(repository.tags.items()):
            where = f"{repository.name}:{tag}"
            if not digest:
                marks.problems.append(f"{where}: the tag's link is empty or damaged")
                continue
            if digest not in repository.revisions:
                marks.problems.append(f"{where}: manifest {digest} is not linked in the repository")
            marks._add_trees([digest], where)
        marks._add_referrers()
        return marks

    def add(self, digests: Iterable[str]) -> None:
        """Add manifests that no tag reaches, with their trees and referrers."""
        for digest in sorted(digests):
            self._add_trees([digest], f"{self._repository.name}@{digest}")
        self._add_referrers()

    def _add_trees(self, pending: list[str], where: str) -> None:
        revisions, stored = self._repository.revisions, self._snapshot.blobs
        while pending:
            digest = pending.pop()
            if digest in self.manifests:
                continue
            if digest not in stored:
                self.problems.append(f"{where}: manifest {digest} is missing")
                continue
            self.manifests.add(digest)
            self.blobs.add(digest)
            manifest = self._snapshot.manifest(digest)
            if manifest is None:
                self.problems.append(f"{where}: {digest} is not a manifest, or damaged")
                continue
            for blob in manifest.blobs:
                if blob not in stored:
                    self.problems.append(f"{where}: blob {blob} is missing")
            for child in manifest.children:
                if child in stored and child not in revisions:
                    self.problems.append(f"{where}: manifest {child} is not linked in the repository")
            pending.extend(manifest.children)
            # a manifest whose descriptor has another media type
            pending.extend(revisions.intersection(manifest.blobs))
            self.blobs.update(manifest.blobs, manifest.foreign)

    def _add_referrers(self) -> None:
        """Add the manifests whose ``subject`` is marked, then their own referrers, and so on."""
        referrers: dict[str, list[str]] = {}
        for digest in self._repository.revisions - self.manifests:
            manifest = self._snapshot.manifest(digest)
            if manifest is not None and manifest.subject:
                referrers.setdefault(manifest.subject, []).append(digest)
        while found := [d for subject in referrers.keys() & self.manifests for d in referrers.pop(subject)]:
            self._add_trees(found, f"{self._repository.name}@{found[0]}")


#: digests of manifests that are unlinked, by repository
Unlinked = Mapping[str, Collection[str]]


def collector_keeps(snapshot: Snapshot, unlinked: Unlinked) -> set[str]:
    """Return the blobs that the registry's collector keeps once ``unlinked`` manifests are gone.

    Distribution 2.8 keeps each revision of each repository that has ``_layers``, and its direct references.
    """
    kept: set[str] = set()
    for _, digest in _collector_reads(snapshot, unlinked):
        if digest in snapshot.blobs:
            kept.add(digest)
            manifest = snapshot.manifest(digest)
            if manifest is not None:
                kept.update(manifest.references)
    return kept


def collector_obstacles(snapshot: Snapshot, unlinked: Unlinked) -> list[str]:
    """Describe the damaged files at which the registry's collector stops before it deletes anything."""
    obstacles = []
    for repository, digest in _collector_reads(snapshot, unlinked):
        if digest in repository.broken:
            obstacles.append(f"{repository.name}: the link of manifest {digest} is empty or damaged")
        elif digest in snapshot.blobs and snapshot.manifest(digest) is None:
            obstacles.append(f"{repository.name}: {digest} is linked as a manifest, but is damaged")
    return sorted(obstacles)


def _collector_reads(snapshot: Snapshot, unlinked: Unlinked) -> Iterator[tuple[Repository, str]]:
    for repository in snapshot.repositories.values():
        if repository.enumerable:
            for digest in repository.revisions.difference(unlinked.get(repository.name, ())):
                yield repository, digest
