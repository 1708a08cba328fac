"""Decides what a collection deletes and what it keeps. Pure. A dry run prints the plan.

This is step 3 of docs/contracts.rst, "Garbage collection".

A blob is *fresh* if it was written within the grace time: a push under way may need it. It stops being fresh
when a manifest that referred to it is gone. Deleting an image therefore frees its layers at once; pushing a
layer again makes it fresh again. In detail:

- A manifest that was deleted, or that this plan removes, *dereferences* what it refers to. Whatever was
written
  before that manifest is not fresh any more.
- What an interrupted collection had decided to delete counts as dereferenced at the time of its scan.
- A manifest without a tag is fresh under the same rule, unless a tag pointed to it since it was pushed.
- The age of a blob counts from its latest link in any repository: to push a blob that is already there writes
  only a link.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sysreg_cli.agent.garbage.mark import Marks, collector_keeps, collector_obstacles
from sysreg_cli.agent.garbage.snapshot import Repository, Snapshot


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """What a collection will do. Sizes are in bytes.

    ``blobs`` maps each blob to delete to its size. ``manifests`` lists the manifests to unlink by repository,
    indexes first. ``pins`` maps each blob that the collector would delete, but must not, to its size.
    ``repositories`` are to be removed. ``needed`` are the blobs that tags need. ``broken`` describes damaged
    images. At ``obstacles`` the collector would stop. ``revisions`` counts the manifests that the collector
    will read. ``scanned`` is when the scan began, in seconds since the epoch.
    """

    blobs: Mapping[str, int] = field(default_factory=dict)
    manifests: Mapping[str, Sequence[str]] = field(default_factory=dict)
    pins: Mapping[str, int] = field(default_factory=dict)
    repositories: Sequence[str] = ()
    needed: frozenset[str] = frozenset()
    broken: Sequence[str] = ()
    obstacles: Sequence[str] = ()
    revisions: int = 0
    scanned: float = 0.0

    @property
    def nothing_to_do(self) -> bool:
        return not (self.blobs or self.manifests or self.repositories)


def make(
    snapshot: Snapshot,
    *,
    now: float,
    grace: float,
    delete_untagged: bool = False,
    dereferenced: Mapping[str, float] | None = None,
) -> SweepPlan:
    """Make the plan from a snapshot that was begun at ``now``. ``grace`` is in seconds.

    ``dereferenced`` maps what an interrupted collection had decided to delete to the time of its scan.
    """
    return _Planner(snapshot, now, grace, dereferenced or {}).make(delete_untagged)


class _Planner:
    """Makes one plan. Knows when each blob or manifest was last dereferenced, and thereby what is fresh."""

    def __init__(
        self, snapshot: Snapshot, now: float, grace: float, dereferenced: Mapping[str, float]
    ) -> None:
        self._snapshot = snapshot
        self._now = now
        self._cutoff = now - grace
        self._dereferenced = dict(dereferenced)

    def make(self, delete_untagged: bool) -> SweepPlan:
        snapshot, stored = self._snapshot, self._snapshot.blobs
        kept = collector_keeps(snapshot, {})
        self._dereference((digest, stored[digest].time) for digest in stored.keys() - kept)
        broken: list[str] = []
        needed: set[str] = set()
        manifests: dict[str, list[str]] = {}
        for name, repository in snapshot.repositories.items():
            marks = Marks.of_tags(snapshot, repository)
            broken.extend(marks.problems)
            # also in a repository that the collector doesn't see
            needed.update(marks.blobs & stored.keys())
            # A damaged tag may mean any of the untagged manifests, so the repository keeps them all.
            if delete_untagged and all(repository.tags.values()):
                manifests[name] = self._untagged(repository, marks)
        manifests = {name: digests for name, digests in manifests.items() if digests}
        if manifests:
            kept = collector_keeps(snapshot, manifests)
            self._dereference(
                (digest, max(snapshot.revision_time(name, digest), stored[digest].time))
                for name, digests in manifests.items()
                for digest in digests
                if digest in stored
            )
        pins = self._pins(stored.keys() - kept, needed)
        return SweepPlan(
            blobs={digest: stored[digest].size for digest in stored.keys() - kept - pins.keys()},
            manifests=manifests,
            pins=pins,
            repositories=[
                name
                for name in sorted(snapshot.repositories)
                if self._is_empty(snapshot.repositories[name], manifests.get(name, ()), pins)
            ],
            needed=frozenset(needed),
            broken=sorted(broken),
            obstacles=collector_obstacles(snapshot, manifests),
            revisions=sum(len(repository.revisions) for repository in snapshot.repositories.values()),
            scanned=self._now,
        )

    def _is_fresh(self, digest: str, written: float) -> bool:
        """Whether a blob or manifest that was last written then may belong to a push under way."""
        return written > self._cutoff and written > self._dereferenced.get(digest, 0.0)

    def _dereference(self, manifests: Iterable[tuple[str, float]]) -> None:
        """Note that manifests, with the times of their push, are gone or to be deleted."""
        for reference, pushed in self._references(manifests).items():
            self._dereferenced[reference] = max(self._dereferenced.get(reference, 0.0), pushed)

    def _references(self, manifests: Iterable[tuple[str, float]]) -> dict[str, float]:
        """Map what manifests refer to, to the time of the latest push of a manifest that does."""
        latest: dict[str, float] = {}
        for digest, pushed in manifests:
            manifest = self._snapshot.manifest(digest)
            for reference in manifest.references if manifest else ():
                latest[reference] = max(latest.get(reference, 0.0), pushed)
        return latest

    def _pins(self, to_delete: set[str], needed: set[str]) -> dict[str, int]:
        """Choose the blobs to pin among those that the collector would delete."""
        pins: dict[str, int] = {}
        links = self._snapshot.link_times(to_delete)
        for digest in to_delete:
            blob = self._snapshot.blobs[digest]
            fresh = self._is_fresh(digest, max(blob.time, links.get(digest, 0.0)))
            if fresh and digest not in links and self._snapshot.manifest(digest) is not None:
                fresh = False  # a manifest that was deleted: a push would have linked its blob
            if fresh or digest in needed:
                pins[digest] = blob.size
        return pins

    def _untagged(self, repository: Repository, marks: Marks) -> list[str]:
        """Choose the manifests of a repository to delete: no tag reaches them, and they are not fresh."""
        name, snapshot = repository.name, self._snapshot
        candidates = repository.revisions - marks.manifests
        pushed = {digest: snapshot.revision_time(name, digest) for digest in candidates}
        fresh = {
            digest
            for digest, time in pushed.items()
            if self._is_fresh(digest, time) and time > snapshot.tagged_time(name, digest)
        }
        if fresh:
            # The platforms of an index that is deleted now don't wait for an index any more.
            deleted = self._references((digest, pushed[digest]) for digest in candidates - fresh)
            fresh = {digest for digest in fresh if pushed[digest] > deleted.get(digest, 0.0)}
            kept = Marks(snapshot, repository)
            kept.manifests |= marks.manifests
            kept.add(fresh)
            candidates -= kept.manifests | fresh
        indexes = {digest for digest in candidates if (it := snapshot.manifest(digest)) and it.children}
        return [*sorted(indexes), *sorted(candidates - indexes)]

    def _is_empty(self, repository: Repository, unlinked: Sequence[str], pins: Mapping[str, int]) -> bool:
        """Whether a repository holds no tag, manifest, upload, or blob of a push under way."""
        if repository.tags or repository.uploads or repository.revisions.difference(unlinked):
            return False
        layers = self._snapshot.layers(repository.name)
        return not any(blob in pins or self._is_fresh(blob, linked) for blob, linked in layers)
