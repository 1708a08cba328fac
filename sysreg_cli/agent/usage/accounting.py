"""Which blobs the tags of a storage reach, and what would become free without some of them. Pure.

The registry's collector keeps a blob as long as a manifest that a repository links refers to it. A delete of
a tag removes the links of those manifests of its tree that no other tag of the repository reaches
(``registry/deletion.py``). So a blob belongs to one tag alone if each manifest that refers to it goes with
that tag. The same holds for a *group* of tags that are deleted together: those of an image, or of a user.

A referrer, such as a signature, is not in the tree: it stays when its subject is deleted, until a collection
with ``--delete-untagged`` removes it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Set
from typing import NamedTuple

from sysreg_cli.agent.storage.mark import Marks
from sysreg_cli.agent.storage.repository import Repository
from sysreg_cli.agent.storage.snapshot import Snapshot


class Tag(NamedTuple):
    """A tag of a repository."""

    repository: str
    name: str


class Share(NamedTuple):
    """What a group of tags reaches, and what only it reaches, in bytes. Each blob counts once.

    ``unique`` is what a delete of these tags and a collection without ``--delete-untagged`` free. It is more
    than ``size`` only if the group has a damaged manifest, for which a collection keeps what it may need.
    ``blobs`` are those that the group reaches.
    """

    size: int
    unique: int
    blobs: frozenset[str]


_NOBODY = object()  # a manifest that no tag reaches: no delete of a tag removes it
_SEVERAL = object()  # more than one group


class _Owners:
    """Maps digests to the one group that they belong to."""

    def __init__(self) -> None:
        self._of: dict[str, object] = {}

    def add(self, digest: str, group: object) -> None:
        if self._of.setdefault(digest, group) != group:
            self._of[digest] = _SEVERAL

    def add_to_all(self, group: object) -> None:
        """Let each digest that has an owner belong to ``group`` as well."""
        for digest in self._of:
            self.add(digest, group)

    def groups(self) -> dict[object, list[str]]:
        """Map each group to the digests that belong to it alone."""
        found: dict[object, list[str]] = {}
        for digest, group in self._of.items():
            found.setdefault(group, []).append(digest)
        return found

    @property
    def digests(self) -> Set[str]:
        return self._of.keys()

    def of(self, digest: str) -> object:
        return self._of.get(digest, _NOBODY)


def shares(snapshot: Snapshot, groups: Mapping[Tag, Hashable]) -> dict[Hashable, Share]:
    """Return the share of each group. ``groups`` maps each tag of the snapshot to its group."""
    reached: dict[Hashable, set[str]] = {}
    owners = _Owners()
    for repository in snapshot.repositories.values():
        removed, marked = _Owners(), _Owners()
        for tag in repository.tags:
            group = groups[Tag(repository.name, tag)]
            manifests, blobs = _tree(snapshot, repository, tag)
            reached.setdefault(group, set()).update(blobs)
            needed = _needed(snapshot, repository, tag)
            for owned, digests in ((removed, manifests), (marked, needed.manifests), (owners, needed.blobs)):
                for digest in digests:
                    owned.add(digest, group)
        for tag, digest in repository.tags.items():
            if _is_unreadable(snapshot, repository, digest):
                # It may need any manifest, so a delete of another tag leaves them all. Its own one stays.
                removed.add_to_all(groups[Tag(repository.name, tag)])
                removed.add(digest, _SEVERAL)
        _add_held(snapshot, repository, owners, removed, marked)
    alone = owners.groups()
    return {
        group: Share(
            size=_bytes(snapshot, blobs),
            unique=_bytes(snapshot, alone.get(group, ())),
            blobs=frozenset(blobs),
        )
        for group, blobs in reached.items()
    }


def _add_held(
    snapshot: Snapshot, repository: Repository, owners: _Owners, removed: _Owners, marked: _Owners
) -> None:
    """Add what a collection keeps because of the manifests that the repository links.

    A damaged or missing manifest keeps all that the repository links (``agent/garbage/planning.py``).
    """
    unknown: list[object] = []
    for digest in repository.revisions:
        owner = _SEVERAL if digest in repository.broken else removed.of(digest)
        if snapshot.manifest(digest) is None:
            unknown.append(owner if digest in snapshot.blobs else _SEVERAL)
        if repository.enumerable:
            for reference in _held(snapshot, digest):
                owners.add(reference, owner)
    for digest in marked.digests - repository.revisions:
        if digest in snapshot.blobs and snapshot.manifest(digest) is None:
            unknown.append(marked.of(digest))
    if unknown:
        for blob, _ in snapshot.layers(repository.name):
            for owner in unknown:
                owners.add(blob, owner)


def _is_unreadable(snapshot: Snapshot, repository: Repository, digest: str) -> bool:
    """Whether the registry answers a request for the manifest with 500: it may refer to anything."""
    if not digest or digest in repository.broken:
        return True
    linked = digest in repository.revisions and digest in snapshot.blobs
    return linked and snapshot.manifest(digest) is None


def _tree(snapshot: Snapshot, repository: Repository, tag: str) -> tuple[set[str], set[str]]:
    """Return the manifests of the tag that the registry serves, and the stored blobs that they reach."""
    manifests: set[str] = set()
    blobs: set[str] = set()
    pending = [repository.tags[tag]]
    while pending:
        digest = pending.pop()
        if digest in manifests or digest not in repository.revisions or digest not in snapshot.blobs:
            continue
        manifests.add(digest)
        blobs.add(digest)
        if not _is_unreadable(snapshot, repository, digest):
            blobs.update(_held(snapshot, digest))
            manifest = snapshot.manifest(digest)
            pending.extend(manifest.children if manifest else ())
    return manifests, blobs & snapshot.blobs.keys()


def _needed(snapshot: Snapshot, repository: Repository, tag: str) -> Marks:
    """Return what a collection keeps because of this tag, whatever manifests are linked."""
    marks = Marks(snapshot, repository)
    if digest := repository.tags[tag]:
        # Where the collector sees the repository, it keeps a referrer because it is linked.
        marks.add([digest], referrers=not repository.enumerable)
    return marks


def _held(snapshot: Snapshot, digest: str) -> Iterator[str]:
    """Yield what the collector keeps because a repository links the manifest."""
    if digest in snapshot.blobs:
        yield digest
        manifest = snapshot.manifest(digest)
        yield from manifest.references if manifest else ()


def _bytes(snapshot: Snapshot, digests: Iterable[str]) -> int:
    return sum(max(snapshot.blobs[digest].size, 0) for digest in digests if digest in snapshot.blobs)
