"""Marking: what the tags of a storage need, and what the registry's own collector would keep. Pure.

Everything is decided a repository at a time, as the registry serves it: a manifest counts for a repository
only if that repository links it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sysreg_cli.agent.garbage.store import Repository, Store


@dataclass(slots=True)
class Reached:
    """What the tags of one repository reach: manifests, blobs (manifests included), and what is broken."""

    manifests: set[str] = field(default_factory=set)
    blobs: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


def reach(store: Store, repository: Repository) -> Reached:
    """Follow every tag through indexes and referrers. A missing manifest or blob is named, with its tag."""
    reached = Reached()
    for tag, digest in sorted(repository.tags.items()):
        where = f"{repository.name}:{tag}"
        if not digest:
            reached.problems.append(f"{where}: the tag's link is empty or damaged")
        else:
            if digest not in repository.revisions:
                reached.problems.append(f"{where}: manifest {digest} is not linked in the repository")
            _descend(store, repository, [digest], reached, where)
    follow_referrers(store, repository, reached)
    return reached


def extend(store: Store, repository: Repository, digests: Iterable[str], reached: Reached) -> None:
    """Add manifests that no tag reaches, and all that hangs on them, to what is reached."""
    for digest in sorted(digests):
        _descend(store, repository, [digest], reached, f"{repository.name}@{digest}")
    follow_referrers(store, repository, reached)


def _descend(store: Store, repository: Repository, pending: list[str], reached: Reached, where: str) -> None:
    while pending:
        digest = pending.pop()
        if digest in reached.manifests:
            continue
        if digest not in store.blobs:
            reached.problems.append(f"{where}: manifest {digest} is missing")
            continue
        reached.manifests.add(digest)
        reached.blobs.add(digest)
        manifest = store.manifest(digest)
        if manifest is None:
            reached.problems.append(f"{where}: {digest} is not a manifest, or damaged")
            continue
        for blob in manifest.blobs:
            if blob not in store.blobs:
                reached.problems.append(f"{where}: blob {blob} is missing")
        for child in manifest.children:
            if child in store.blobs and child not in repository.revisions:
                reached.problems.append(f"{where}: manifest {child} is not linked in the repository")
        pending.extend(manifest.children)
        reached.blobs.update(manifest.blobs, manifest.foreign)


def follow_referrers(store: Store, repository: Repository, reached: Reached) -> None:
    """Keep the manifests whose ``subject`` is kept, and the referrers of those, to the end."""
    waiting: dict[str, list[str]] = {}
    for digest in repository.revisions - reached.manifests:
        manifest = store.manifest(digest)
        if manifest is not None and manifest.subject:
            waiting.setdefault(manifest.subject, []).append(digest)
    while found := [d for subject in waiting.keys() & reached.manifests for d in waiting.pop(subject)]:
        _descend(store, repository, found, reached, f"{repository.name}@{found[0]}")


def collector_marks(store: Store, doomed: dict[str, set[str]]) -> set[str]:
    """What ``docker-registry garbage-collect`` keeps once the ``doomed`` revisions are unlinked.

    Distribution 2.8: every revision of every repository that has ``_layers``, with its direct references.
    """
    marks: set[str] = set()
    for repository in store.repositories.values():
        if not repository.enumerable:
            continue
        for digest in repository.revisions - doomed.get(repository.name, set()):
            if digest not in store.blobs:
                continue
            marks.add(digest)
            manifest = store.manifest(digest)
            if manifest is not None:
                marks.update(manifest.references)
    return marks


def collector_obstacles(store: Store, doomed: dict[str, set[str]]) -> list[str]:
    """Where ``docker-registry garbage-collect`` would stop before it deletes anything."""
    obstacles = []
    for repository in store.repositories.values():
        if not repository.enumerable:
            continue
        for digest in sorted(repository.revisions - doomed.get(repository.name, set())):
            if digest in repository.broken:
                obstacles.append(f"{repository.name}: the link of manifest {digest} is empty or damaged")
            elif digest in store.blobs and store.manifest(digest) is None:
                obstacles.append(f"{repository.name}: {digest} is linked as a manifest, but is damaged")
    return obstacles
