"""A delete that is killed between any two of its requests, and the same command run again."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from devstack import images
from devstack.client import IndependentClient
from devstack.controller import Controller
from tests.functional.images import storage
from tests.functional.images.killed import killed_before

_SHARED = images.multi_arch(seed="killed-shared")
_OWN = images.multi_arch(seed="killed-own")
_PARTLY = images.index(_OWN.children[0], images.single(seed="killed-partly"))
_PLAIN = images.single(seed="killed-plain")


@dataclass(frozen=True)
class Case:
    """What is pushed (tag -> image), what is deleted, and which tags stay."""

    pushed: dict[str, images.Image]
    wanted: Callable[[str], list[str]]
    stays: frozenset[str]

    @property
    def manifests(self) -> set[str]:
        kept = [image for tag, image in self.pushed.items() if tag in self.stays]
        return {image.digest for index in kept for image in (index, *index.children)}


CASES = {
    "tag-with-sibling": Case(
        {"v1": _SHARED, "v2": _SHARED, "other": _PLAIN},
        lambda name: [f"{name}:v1"],
        frozenset({"v2", "other"}),
    ),
    "last-tag-of-an-index-that-shares-a-platform": Case(
        {"v1": _OWN, "partly": _PARTLY}, lambda name: [f"{name}:v1"], frozenset({"partly"})
    ),
    "digest-with-two-tags": Case(
        {"v1": _OWN, "v2": _OWN, "other": _PLAIN},
        lambda name: ["--yes", f"{name}@{_OWN.digest}"],
        frozenset({"other"}),
    ),
    "group-of-tags-and-a-digest": Case(
        {"v1": _OWN, "v2": _OWN, "partly": _PARTLY, "plain": _PLAIN, "all": _SHARED},
        lambda name: [f"{name}:v1", f"{name}@{_PLAIN.digest}", f"{name}:v2"],
        frozenset({"partly", "all"}),
    ),
}


@pytest.mark.parametrize("label", CASES)
def test_killed_anywhere_other_tags_are_whole_and_the_same_command_finishes_it(
    controller: Controller, label: str
) -> None:
    with ThreadPoolExecutor(4) as pool:
        for start in range(1, 100, 4):
            numbers = range(start, start + 4)
            killed = list(pool.map(lambda number: _kill_and_finish(controller, label, number), numbers))
            if not all(killed):
                assert start > 8, "the kill never happened"
                return
    raise AssertionError("100 requests for one delete")


def _kill_and_finish(controller: Controller, label: str, number: int) -> bool:
    """Whether the delete was killed; False if it was through before its request ``number``."""
    case, registry = CASES[label], controller.client()
    name, when = f"killed/{label}-{number}", f"killed before request {number}"
    for tag, image in case.pushed.items():
        registry.push(name, tag, image)

    first = killed_before(controller, signal.SIGKILL, number, *case.wanted(name))
    _assert_whole(registry, name, case.stays, when)
    if first.returncode == 0:
        return False
    assert first.returncode == -signal.SIGKILL, first.stderr

    second = controller.system("registry-image-delete", *case.wanted(name))

    # Killed behind the last change, the second run can only say that there is nothing left to do.
    assert second.returncode == 0 or "there is no such image" in second.stderr, second.stderr
    assert storage.tags(controller, name) == case.stays, when
    assert storage.manifests(controller, name) == case.manifests, when
    _assert_whole(registry, name, case.stays, when)
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_half_way_it_says_which_command_finishes_it(
    controller: Controller, number: signal.Signals
) -> None:
    case, registry = CASES["digest-with-two-tags"], controller.client()
    name = f"interrupted/{number.name.lower()}"
    image = f"{name}:v1"
    for tag, pushed in case.pushed.items():
        registry.push(name, tag, pushed)
    for before in range(1, 30):
        first = killed_before(controller, number, before, image)
        assert (first.returncode, first.stdout) == (130, ""), first.stderr
        if first.stderr != "system: interrupted\n":
            break
    half = f"interrupted: {image}: the delete is half done: run the same command again to finish it"
    assert first.stderr == f"system: {half}\n"
    assert controller.system("registry-image-delete", image).returncode == 0
    assert storage.tags(controller, name) == {"v2", "other"}


def _assert_whole(registry: IndependentClient, name: str, tags: frozenset[str], when: str) -> None:
    for tag in tags:
        assert registry.is_whole(name, tag), f"{tag} does not pull any more: {when}"
