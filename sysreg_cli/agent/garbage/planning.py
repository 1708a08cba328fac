"""Decides what a collection deletes and what it keeps. A dry run prints the plan.

This is step 3 of docs/contracts.rst, "Garbage collection".

A blob is *fresh* if it was written within the grace time: a push under way may need it. It stops being fresh
when a manifest that referred to it is gone. Deleting an image therefore frees its layers at once; pushing a
layer again makes it fresh again. In detail:

- A manifest that was deleted, or that this plan removes, *dereferences* what it refers to. Whatever was
  written before that manifest is not fresh any more.
- What an interrupted collection had decided to delete counts as dereferenced at the time of its scan.
- A manifest without a tag is fresh under the same rule, unless a tag pointed to it since it was pushed. One
  that is missing, or whose link is damaged, is not fresh: the registry writes the link last.
- A blob of another size than such a manifest says is damaged, and not fresh: a push would not store it.
- The age of a blob counts from its latest link in any repository: to push a blob that is already there writes
  only a link.

A damaged or missing manifest may be restored from a backup. What it refers to is not known, but the registry
accepted it only because its repository linked all of that. So as long as it is linked, the blobs that its
repository links are kept. A damaged one may also be the index of any untagged manifest: then these are kept,
too. A damaged tag may mean any of them as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from sysreg_cli.agent.garbage.sparing import DeletedTags, restorable
from sysreg_cli.agent.storage.damage import STRAY, Damage, Remedy
from sysreg_cli.agent.storage.mark import Marks, collector_keeps, collector_stops
from sysreg_cli.agent.storage.repository import Repository
from sysreg_cli.agent.storage.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """What a collection will do. Sizes are in bytes.

    ``blobs`` maps each blob to delete to its size. ``manifests`` lists the manifests to unlink by repository,
    indexes first. ``pins`` maps each blob that the collector would delete, but must not, to its size.
    ``lost`` maps each deleted tag (NAME:TAG@DIGEST) that can be restored until then to the blobs of the plan
    that it needs. ``repositories`` are to be removed. ``needed`` are the blobs that tags need, ``linked``
    those that the manifests need which repositories link. ``damages`` are those of images. The collector
    would stop at ``obstacle``, "" if it would not. ``revisions`` counts the manifests that the collector
    will read. ``scanned`` is when the scan began, in seconds since the epoch.
    """

    blobs: Mapping[str, int] = field(default_factory=dict)
    manifests: Mapping[str, Sequence[str]] = field(default_factory=dict)
    pins: Mapping[str, int] = field(default_factory=dict)
    lost: Mapping[str, Set[str]] = field(default_factory=dict)
    repositories: Sequence[str] = ()
    needed: Set[str] = frozenset()
    linked: Set[str] = frozenset()
    damages: Sequence[Damage] = ()
    obstacle: str = ""
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
    keep_deleted: float = 0.0,
) -> SweepPlan:
    """Make the plan from a snapshot that was begun at ``now``. ``grace`` is in seconds.

    ``dereferenced`` maps what an interrupted collection had decided to delete to the time of its scan. What
    was deleted in the last ``keep_deleted`` seconds is kept.
    """
    # Without it nothing is kept, not even what seems to be deleted in the future.
    spare_since = now - keep_deleted if keep_deleted else math.inf
    return _Planner(snapshot, now, grace, dereferenced or {}, spare_since).make(delete_untagged)


def make_both(
    snapshot: Snapshot, *, now: float, grace: float, dereferenced: Mapping[str, float] | None = None
) -> tuple[SweepPlan, SweepPlan]:
    """Make the plans without and with ``delete_untagged``, and read what both need once. See ``make``."""
    planner = _Planner(snapshot, now, grace, dereferenced or {})
    plan = planner.make(delete_untagged=False)
    # The second one dereferences more, so it comes last.
    return plan, planner.make(delete_untagged=True) if planner.has_untagged else plan


class _Planner:
    """Makes a plan. Knows when each blob or manifest was last dereferenced, and thereby what is fresh."""

    def __init__(
        self,
        snapshot: Snapshot,
        now: float,
        grace: float,
        dereferenced: Mapping[str, float],
        spare_since: float = math.inf,
    ) -> None:
        self._snapshot = snapshot
        self._spare_since = spare_since
        self._now = now
        self._cutoff = now - grace
        self._dereferenced = dict(dereferenced)
        self._marks = Marks.of_all_tags(snapshot)
        self._linked = collector_keeps(snapshot, {})
        stored = snapshot.blobs
        #: what the collector deletes as long as no manifest is unlinked
        self._unlinked = stored.keys() - self._linked
        snapshot.read_manifests(self._unlinked)
        self._dereference((digest, stored[digest].time) for digest in self._unlinked)
        self._deleted = restorable(snapshot)
        self._looked_for: set[str] = set()
        self._link_times: dict[str, float] = {}
        self._damages = [damage for marks in self._marks.values() for damage in marks.damages()]
        # also in a repository that the collector doesn't see
        marked: set[str] = set().union(*(marks.blobs for marks in self._marks.values()))
        self._needed = stored.keys() & marked
        no_files = {snapshot.blob_path(digest) for digest, blob in stored.items() if blob.size < 0}
        strays = (snapshot.strays | no_files) - {damage.path for damage in self._damages}
        self._damages.extend(Damage("", f"{path} {STRAY}", Remedy.REMOVE_STRAY, path=path) for path in strays)

    @property
    def has_untagged(self) -> bool:
        """Whether any repository has a manifest that no tag needs."""
        repositories = self._snapshot.repositories.values()
        return any(not it.revisions <= self._marks[it.name].manifests for it in repositories)

    def make(self, delete_untagged: bool) -> SweepPlan:
        snapshot, stored = self._snapshot, self._snapshot.blobs
        to_delete = self._unlinked
        deleted = DeletedTags(snapshot, self._deleted, self._spare_since)
        spared: set[str] = set()
        manifests: dict[str, list[str]] = {}
        for name, repository in snapshot.repositories.items():
            marks = self._marks[name]
            untagged: list[str] = []
            to_restore = deleted.spare_young(repository)
            if delete_untagged and all(repository.tags.values()) and not marks.unreadable:
                untagged = self._untagged(repository, marks, to_restore)
            deleted.keep_untagged(repository, marks.manifests, untagged)
            if untagged:
                manifests[name] = untagged
            if marks.unreadable or repository.odd or repository.revisions.difference(stored, untagged):
                spared.update(snapshot.linked(name) & stored.keys())
        if manifests:
            to_delete = stored.keys() - collector_keeps(snapshot, manifests)
            self._dereference(
                (digest, max(snapshot.revision_time(name, digest), stored[digest].time))
                for name, digests in manifests.items()
                for digest in digests
                if digest in stored
            )
        damaged = {digest for digest, time in self._dereferenced.items() if time == math.inf}
        pins = self._pins(to_delete, self._needed | deleted.blobs | (spared - damaged))
        blobs = {digest: max(stored[digest].size, 0) for digest in to_delete - pins.keys()}
        return SweepPlan(
            blobs=blobs,
            manifests=manifests,
            pins=pins,
            lost=deleted.lost_without(blobs.keys()),
            repositories=[
                name
                for name in sorted(snapshot.repositories.keys() - deleted.repositories)
                if self._is_empty(snapshot.repositories[name], manifests.get(name, ()), pins)
            ],
            needed=self._needed,
            linked=self._linked,
            damages=sorted(self._damages, key=lambda it: (it.remedy.value, str(it))),
            obstacle=collector_stops(snapshot, manifests, blobs),
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
        stored = self._snapshot.blobs
        for digest, pushed in manifests:
            if (manifest := self._snapshot.manifest(digest)) is None:
                continue
            for reference in manifest.references:
                latest[reference] = max(latest.get(reference, 0.0), pushed)
            for blob, size in zip(manifest.blobs, manifest.sizes, strict=True):
                if blob in stored and stored[blob].size != size and size >= 0:
                    latest[blob] = math.inf  # damaged: of no use to a push
        return latest

    def _pins(self, to_delete: set[str], needed: set[str]) -> dict[str, int]:
        """Choose the blobs to pin among those that the collector would delete."""
        pins: dict[str, int] = {}
        if not to_delete <= self._looked_for:
            self._link_times = self._snapshot.link_times(to_delete)
            self._looked_for = to_delete
        links = self._link_times
        for digest in to_delete:
            blob = self._snapshot.blobs[digest]
            # Without a link in a repository, it is a deleted manifest: an upload ends with the link.
            fresh = digest in links and self._is_fresh(digest, max(blob.time, links[digest]))
            if fresh or digest in needed:
                pins[digest] = blob.size
        return pins

    def _untagged(self, repository: Repository, marks: Marks, to_restore: Set[str]) -> list[str]:
        """Choose the manifests of a repository to delete: no tag reaches them, and they are not fresh.

        Those that deleted tags need, ``to_restore``, and their referrers are kept.
        """
        name, snapshot = repository.name, self._snapshot
        kept = Marks(snapshot, repository)
        kept.manifests |= marks.manifests
        if to_restore:
            kept.add(to_restore)
        candidates = repository.revisions - kept.manifests
        pushed = {digest: snapshot.revision_time(name, digest) for digest in candidates}
        sound = (candidates & snapshot.blobs.keys()) - repository.broken.keys()
        fresh = {digest for digest in sound if self._is_fresh(digest, pushed[digest])}
        if fresh:
            tagged = snapshot.tagged_times(name)
            fresh = {digest for digest in fresh if pushed[digest] > tagged.get(digest, 0.0)}
        if fresh:
            # The platforms of an index that is deleted now don't wait for an index any more.
            deleted = self._references((digest, pushed[digest]) for digest in candidates - fresh)
            fresh = {digest for digest in fresh if pushed[digest] > deleted.get(digest, 0.0)}
            kept.add(fresh)
            candidates -= kept.manifests | fresh
        indexes = {digest for digest in candidates if (it := snapshot.manifest(digest)) and it.children}
        return [*sorted(indexes), *sorted(candidates - indexes)]

    def _is_empty(self, repository: Repository, unlinked: Sequence[str], pins: Mapping[str, int]) -> bool:
        """Whether a repository holds no tag, manifest, upload, or blob of a push under way."""
        if repository.tags or repository.uploads or repository.odd or repository.strays:
            return False
        if repository.revisions.difference(unlinked):
            return False
        layers = self._snapshot.layers(repository.name)
        return not any(blob in pins or self._is_fresh(blob, linked) for blob, linked in layers)
