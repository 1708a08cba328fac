"""The plan of a collection: what goes, what is pinned, what is broken. Pure; a dry run is printing it.

This is the third step of docs/contracts.rst, "Garbage collection". What belongs to pushes under way stays.
Something is *fresh* if it was written within the
grace time and nothing has released it since. A manifest that was deleted, or that this plan removes, releases
what it refers to, as of the time it was pushed; a tag that was moved away releases the manifest it pointed
at; an earlier collection that was interrupted released all it had decided to free, as of the time it had
looked. So what a delete just released is freed at once, and the same layer pushed again since then is not.
The age of a blob is that of its latest link in any repository too: pushing a blob that is there already
writes only a new link.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field

from sysreg_cli.agent.garbage import mark
from sysreg_cli.agent.garbage.store import Store


@dataclass(slots=True)
class Plan:
    """What a collection will do. Sizes in bytes.

    ``frees`` are the blobs that go; ``untag`` the manifests to unlink first, index before platform, by
    repository; ``pins`` the blobs the collector would delete but must not; ``empty`` the repositories to
    remove; ``needed`` what must be there afterwards; ``broken`` what is wrong already; ``obstacles`` where
    the collector would stop, so that nothing may be started; ``revisions`` how many manifests it will mark.
    """

    frees: dict[str, int] = field(default_factory=dict)
    untag: dict[str, list[str]] = field(default_factory=dict)
    pins: dict[str, int] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)
    needed: set[str] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)
    obstacles: list[str] = field(default_factory=list)
    revisions: int = 0

    @property
    def bytes(self) -> int:
        return sum(self.frees.values())

    @property
    def manifests(self) -> int:
        return sum(map(len, self.untag.values()))

    @property
    def nothing_to_do(self) -> bool:
        return not (self.frees or self.untag or self.empty)


class _Releases(dict[str, float]):
    """When each blob or manifest was last released: the time of the latest manifest, now gone, that needs
    it."""

    def __init__(self, store: Store, earlier: Mapping[str, float] | None = None) -> None:
        super().__init__(earlier or {})
        self._store = store

    def add(self, gone: Iterable[tuple[str, float]]) -> None:
        for digest, when in gone:
            manifest = self._store.manifest(digest)
            for reference in manifest.references if manifest else ():
                self[reference] = max(self.get(reference, 0.0), when)

    def since(self, digest: str, written: float, young: float) -> bool:
        """Whether what was ``written`` then is fresh: later than ``young``, and not released since."""
        return written > young and written > self.get(digest, 0.0)


def make(
    store: Store,
    *,
    delete_untagged: bool = False,
    grace: float = 3600,
    now: float | None = None,
    earlier: Mapping[str, float] | None = None,
) -> Plan:
    """Decide from a snapshot of the storage. ``grace`` in seconds; ``earlier`` is what an interrupted
    collection had decided to free, digest to time.
    """
    young = (time.time() if now is None else now) - grace
    plan = Plan()
    marks = mark.collector_marks(store, {})
    released = _Releases(store, earlier)
    released.add((digest, store.blobs[digest].time) for digest in store.blobs.keys() - marks)
    for name, repository in store.repositories.items():
        reached = mark.reach(store, repository)
        plan.broken.extend(reached.problems)
        # Whatever a tag needs and has must be there afterwards, also where the collector itself doesn't look.
        plan.needed.update(blob for blob in reached.blobs if blob in store.blobs)
        # A damaged tag may mean any of the untagged manifests: nothing of that repository goes.
        if delete_untagged and all(repository.tags.values()):
            doomed = _untagged(store, name, reached, released, young)
            if doomed:
                plan.untag[name] = doomed
    doomed_sets = {name: set(digests) for name, digests in plan.untag.items()}
    if doomed_sets:
        marks = mark.collector_marks(store, doomed_sets)
        released.add(
            (digest, max(store.revision_time(name, digest), store.blobs[digest].time))
            for name, digests in doomed_sets.items()
            for digest in digests
            if digest in store.blobs
        )
    plan.revisions = sum(len(repository.revisions) for repository in store.repositories.values())
    plan.obstacles = mark.collector_obstacles(store, doomed_sets)
    _divide(store, plan, store.blobs.keys() - marks, released, young)
    plan.empty = [
        name
        for name, repository in sorted(store.repositories.items())
        if not repository.tags
        and not repository.uploads
        and not repository.revisions - doomed_sets.get(name, set())
        and not any(
            blob in plan.pins or released.since(blob, linked, young) for blob, linked in store.layers(name)
        )
    ]
    plan.broken.sort()
    return plan


def _divide(store: Store, plan: Plan, unmarked: Set[str], released: _Releases, young: float) -> None:
    """Each blob that the collector would delete is either freed or pinned."""
    links = store.link_times(unmarked)
    for digest in unmarked:
        blob = store.blobs[digest]
        fresh = released.since(digest, max(blob.time, links.get(digest, 0.0)), young)
        if fresh and digest not in links and store.manifest(digest) is not None:
            fresh = False  # a manifest that was deleted: a blob of a push would have been linked
        if fresh or digest in plan.needed:
            plan.pins[digest] = blob.size
        else:
            plan.frees[digest] = blob.size


def _untagged(store: Store, name: str, reached: mark.Reached, released: _Releases, young: float) -> list[str]:
    """The manifests of a repository that go: no tag reaches them, and no push under way may tag them yet."""
    repository = store.repositories[name]
    candidates = repository.revisions - reached.manifests
    if not candidates:
        return []
    times = {digest: store.revision_time(name, digest) for digest in candidates}
    fresh = {
        digest
        for digest in candidates
        if released.since(digest, times[digest], young) and times[digest] > store.tagged_time(name, digest)
    }
    if fresh:
        # Platforms of an index that goes now don't wait for an index any more.
        going = _Releases(store)
        going.add((digest, times[digest]) for digest in candidates - fresh)
        fresh = {digest for digest in fresh if going.since(digest, times[digest], young)}
        kept = mark.Reached(set(reached.manifests), set(reached.blobs))
        mark.extend(store, repository, fresh, kept)
        candidates -= kept.manifests | fresh
    return sorted(candidates, key=lambda digest: (not _is_index(store, digest), digest))


def _is_index(store: Store, digest: str) -> bool:
    manifest = store.manifest(digest)
    return manifest is not None and bool(manifest.children)
