"""Reads the storage once, has the plan made, and carries it out unless it is a dry run.

Only tags are removed. Their manifests stay, until a collection with ``--delete-untagged`` frees them
(docs/architecture.rst, "A prune").
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import groupby

from sysreg_cli.agent.prune.plan import Plan, Verdict, decide
from sysreg_cli.agent.prune.rules import Rules, matches
from sysreg_cli.agent.prune.stored import stored_images
from sysreg_cli.agent.storage.recent import reading
from sysreg_cli.agent.storage.root import open_root
from sysreg_cli.agent.storage.snapshot import Snapshot
from sysreg_cli.agent.storage.tags import TagStorage
from sysreg_cli.agent.usage.accounting import Tag, shares
from sysreg_cli.errors import NotFound, SysregError, Unavailable
from sysreg_cli.settings import Settings
from sysreg_cli.text import iso_time, log_line
from sysreg_cli.v1.prune import PrunedTag, Pruning

log = logging.getLogger("sysreg.agent")

# Tags that are removed under one permit of the write lock: a collection waits for half a second for it.
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for, and by whom. ``policy``: the rules are those of sysreg.conf."""

    rules: Rules
    by: str = ""
    policy: bool = False
    dry_run: bool = False
    unlimited: bool = False


def prune(settings: Settings, order: Order, clock: Callable[[], float] = time.time) -> Pruning:
    """Remove tags, or say which would go.

    Raises NotSupported for a storage that cannot be read directly, NotFound for globs of the command line
    that match nothing, Unavailable while a collection holds the write lock, SysregError.
    """
    began = clock()
    with open_root(settings) as root, reading(root) as snapshot:
        plan = _plan(snapshot, settings, order, began)
        shares_of_tags = shares(snapshot, {tag: tag for tag in _tags(snapshot)})
    problems = _problems(order, plan)
    verdicts = plan.verdicts
    if not order.dry_run:
        removal = Removal(TagStorage(settings), order.by)
        verdicts = removal.run(verdicts)
        problems += removal.problems
    with open_root(settings):
        freed = _freed(snapshot, verdicts)
    return Pruning(
        as_of=iso_time(began),
        removed=sum(it.goes for it in verdicts),
        freed=freed,
        dry_run=order.dry_run,
        problems=tuple(problems),
        tags=tuple(_row(it, shares_of_tags[Tag(it.image, it.tag.name)].unique) for it in verdicts),
    )


def _row(verdict: Verdict, unique: int) -> PrunedTag:
    return PrunedTag(str(verdict), verdict.decision, verdict.reason, unique, verdict.tag.digest)


def _plan(snapshot: Snapshot, settings: Settings, order: Order, now: float) -> Plan:
    def is_wanted(name: str) -> bool:
        return any(matches(name, rule.images) for rule in order.rules.values())

    return decide(
        stored_images(snapshot, is_wanted),
        order.rules,
        protected=settings.images.protected,
        now=now,
        unlimited=order.unlimited,
    )


def _problems(order: Order, plan: Plan) -> list[str]:
    """Return what is not done as asked for. Raises NotFound for globs of the command line."""
    unmatched = [f"no image matches {glob}" for glob in plan.unmatched]
    if not order.policy:
        if unmatched:
            raise NotFound("; ".join(unmatched), next_step="see system registry-image-list")
        if plan.idle:
            globs = " ".join(glob for rule in order.rules.values() for glob in rule.match)
            raise NotFound(
                f"no tag of these images matches {globs}", next_step="see system registry-image-tags IMAGE"
            )
        allow = "allow it with --yes or --at-most"
    else:
        allow = "raise at_most in sysreg.conf, or prune the image by hand with --yes"
    unmatched = [f"{it}; correct the section [retention NAME] in sysreg.conf" for it in unmatched]
    return unmatched + [f"{it}: none was removed; {allow}" for it in plan.over_limit]


class Removal:
    """Removes the tags that go, for the user ``by``. ``problems`` say which could not be removed, and why."""

    def __init__(self, storage: TagStorage, by: str) -> None:
        self.problems: list[str] = []
        self._storage = storage
        self._by = by
        self._removed = 0
        #: why a tag, NAME:TAG, was not removed
        self._left: dict[str, str] = {}

    def run(self, verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
        """Return the verdicts, with the tags that were not removed after all as kept ones.

        Raises Unavailable if a collection holds the write lock before the first tag is removed.
        """
        going = [it for it in verdicts if it.goes]
        for image, group in groupby(going, key=lambda it: it.image):
            tags = list(group)
            while tags:
                ready, tags = self._without_owners(tags)
                for start in range(0, len(ready), _BATCH):
                    self._remove(image, ready[start : start + _BATCH])
        return tuple(it.kept(self._left[str(it)]) if str(it) in self._left else it for it in verdicts)

    def _without_owners(self, tags: Sequence[Verdict]) -> tuple[list[Verdict], list[Verdict]]:
        """Return the tags of one image that may go now, and those whose owners have to go before.

        A companion of a tag that was left is left, too.
        """
        pending = {it.tag.name for it in tags}
        ready, rest = [], []
        for verdict in tags:
            left = next((it for it in verdict.owners if f"{verdict.image}:{it}" in self._left), None)
            if left is not None:
                self._left[str(verdict)] = f"belongs to {verdict.image}:{left}, which was not removed"
            elif pending.isdisjoint(verdict.owners):
                ready.append(verdict)
            else:
                rest.append(verdict)
        return ready, rest

    def _remove(self, image: str, batch: Sequence[Verdict]) -> None:
        removed: Set[str] = frozenset()
        reason = "it was pushed again meanwhile"
        try:
            tags = {it.tag.name: it.tag.digest for it in batch}
            trees = {it.tag.name: it.tag.tree for it in batch}
            pushed = {it.tag.name: it.tag.pushed for it in batch}
            removed = set(self._storage.remove(image, tags, trees, by=self._by, pushed=pushed))
        except SysregError as error:
            if isinstance(error, Unavailable) and not self._removed:
                raise
            reason = f"not removed: {error.message}"
            removed = self._gone(image, tags)
            left = len(batch) - len(removed)
            number = "1 tag was" if left == 1 else f"{left} tags were"
            self.problems.append(f"{image}: {number} not removed: {error}")
        for verdict in batch:
            if verdict.tag.name in removed:
                line = f"image prune: removed {verdict} ({verdict.tag.digest}): {verdict.reason}"
                log.info("%s", log_line(line))
        self._removed += len(removed)
        self._left.update((str(it), reason) for it in batch if it.tag.name not in removed)

    def _gone(self, image: str, tags: Collection[str]) -> Set[str]:
        """Return those of the tags that are gone: a removal may fail in the middle."""
        try:
            return set(tags) - self._storage.tags(image).keys()
        except SysregError:
            return set()


def _tags(snapshot: Snapshot) -> Iterator[Tag]:
    return (Tag(it.name, tag) for it in snapshot.repositories.values() for tag in it.tags)


def _freed(snapshot: Snapshot, verdicts: Iterable[Verdict]) -> int:
    """Return what the tags that go take together and no other tag needs."""
    going = {Tag(it.image, it.tag.name) for it in verdicts if it.goes}
    if not going:
        return 0
    return shares(snapshot, {tag: tag in going for tag in _tags(snapshot)})[True].unique
