"""Random stores and arguments, with a failure, a kill or a push at a random request.

    python -m tests.unit.registry.test_deletion_random FIRST COUNT

runs more of them.
"""

from __future__ import annotations

import functools
import random
import sys
from collections.abc import Callable
from typing import Any

import pytest

from sysreg_cli.errors import Conflict, NotFound, NotStored, SysregError, Unavailable
from sysreg_cli.reference import parse
from sysreg_cli.registry.deletion import Deletion, delete_images
from sysreg_cli.registry.manifests import RemoteManifest
from tests.unit.registry.memory import MemoryRegistry, image, index

_Outcomes = dict[str, Deletion | SysregError]


class _Killed(BaseException):
    pass


class _Case:
    """One registry with tags on images, indexes and indexes of indexes, and arguments for a delete."""

    def __init__(self, seed: int) -> None:
        self.random = choose = random.Random(seed)
        self.full = choose.random() < 0.25
        self.deletes_tags = not self.full and choose.random() < 0.3
        self.registry: Any = MemoryRegistry(full=self.full, deletes_tags=self.deletes_tags)
        images = [image(f"image {number}") for number in range(5)]
        inner = [self._index(images) for _ in range(3)]
        self.manifests = images + inner + [self._index(images + inner) for _ in range(2)]
        for manifest in self.manifests:
            self.registry.manifests[manifest.digest] = manifest
        for number in range(choose.randint(2, 8)):
            self.registry.push(f"v{number}", choose.choice(self.manifests))
        tags = sorted(self.registry.tagged)
        self.wanted = choose.sample(tags, choose.randint(1, len(tags)))
        self.arguments = [f"app:{tag}" for tag in self.wanted]
        digest = choose.choice(self.manifests).digest if choose.random() < 0.4 else ""
        if digest:
            self.arguments.insert(choose.randint(0, len(tags)), f"app@{digest}")
        if choose.random() < 0.2:
            self.registry.damaged.add(choose.choice(self.manifests).digest)
        self.others = {
            tag: on for tag, on in self.registry.tagged.items() if tag not in self.wanted and on != digest
        }

    def _index(self, parts: list[RemoteManifest]) -> RemoteManifest:
        return index(*self.random.sample(parts, self.random.randint(1, 3)))

    def before(self, number: int, hook: Callable[[], None], *, lasting: bool = False) -> None:
        self.registry.before = dict.fromkeys(range(number, 5000 if lasting else number + 1), hook)

    def delete(self, arguments: list[str]) -> _Outcomes:
        images = [parse(argument) for argument in arguments]
        outcomes = delete_images(self.registry, images, all_tags=True)
        return {str(image): outcome for image, outcome in outcomes}

    def assert_others_whole(self) -> None:
        for tag, digest in self.others.items():
            assert self.registry.tagged.get(tag) == digest
            assert self.registry.is_whole(tag)

    def assert_finished(self) -> None:
        if self.full:  # an image that another tag needs has to stay
            return
        assert not set(self.wanted) & set(self.registry.tagged)
        if not self.deletes_tags:
            assert not [m for m in self.registry.manifests.values() if m.is_placeholder]


def _raise(error: type[BaseException]) -> None:
    raise error("at this request")


def _check_without_a_failure(seed: int) -> None:
    case = _Case(seed)
    for name, outcome in case.delete(case.arguments).items():
        if isinstance(outcome, Deletion):
            assert parse(name).tag not in case.registry.tagged
        else:
            assert isinstance(outcome, (Conflict, NotFound, NotStored))
    case.assert_others_whole()
    case.assert_finished()


def _check_with_failures(seed: int, *, lasting: bool) -> None:
    case = _Case(seed)
    case.before(case.random.randint(1, 60), functools.partial(_raise, Unavailable), lasting=lasting)
    outcomes = case.delete(case.arguments)
    case.assert_others_whole()
    case.registry.before.clear()
    case.delete([name for name, outcome in outcomes.items() if isinstance(outcome, SysregError)])
    case.assert_others_whole()
    case.assert_finished()


def _check_with_a_kill(seed: int) -> None:
    case = _Case(seed)
    case.before(case.random.randint(1, 60), functools.partial(_raise, _Killed))
    try:
        case.delete(case.arguments)
    except _Killed:
        case.assert_others_whole()
        case.delete(case.arguments)
    case.assert_others_whole()
    case.assert_finished()


def _check_with_a_push(seed: int) -> None:
    """Push an index that shares parts, under a new tag or one of the others."""
    case = _Case(seed)
    case.registry.damaged.clear()
    parts = case.random.sample(case.manifests, 3)
    pushed = index(*parts, image("pushed"))
    tag = case.random.choice(["new", *case.others])

    def push() -> None:
        # as a client does: what is gone is sent again, parts first
        case.registry.push(tag, *case.manifests, image("pushed"), pushed)

    number = case.random.randint(1, 40)
    case.before(number, push)
    case.registry.full = False
    case.delete(case.arguments)
    if number <= len(case.registry.calls):
        case.others[tag] = pushed.digest
    case.assert_others_whole()


_CHECKS: dict[str, Callable[[int], None]] = {
    "no failure": _check_without_a_failure,
    "one failure": functools.partial(_check_with_failures, lasting=False),
    "failures from then on": functools.partial(_check_with_failures, lasting=True),
    "a kill": _check_with_a_kill,
    "a push": _check_with_a_push,
}


@pytest.mark.parametrize("check", _CHECKS)
def test_other_tags_stay_whole_and_the_same_command_finishes_it(check: str) -> None:
    for seed in range(150):
        _CHECKS[check](seed)


if __name__ == "__main__":
    first, count = map(int, sys.argv[1:])
    for number in range(first, first + count):
        for name, function in _CHECKS.items():
            try:
                function(number)
            except AssertionError as error:
                print(number, name, error)
