"""Deletes that can also use the registry's storage: fewer requests, and tags beside a damaged one."""

from __future__ import annotations

from typing import Any

import pytest

from sysreg_cli.errors import NotStored, Unavailable
from sysreg_cli.reference import ImageReference, parse
from sysreg_cli.registry.deletion import Deletion, delete_images
from tests.unit.registry.memory import MemoryRegistry, MemoryStorage, image, index


def delete(registry: Any, *images: str, storage: Any = None) -> list[Any]:
    return [outcome for _, outcome in delete_images(registry, [parse(it) for it in images], storage=storage)]


@pytest.mark.parametrize(("k", "n"), [(1, 6), (1, 200), (20, 200), (100, 200)])
def test_k_of_n_tags_cost_at_most_3k_plus_10_requests_and_one_reading(k: int, n: int) -> None:
    registry = MemoryRegistry()
    for number in range(n):
        registry.push(f"v{number:04}", image(str(number)))
    wanted = [f"app:v{number:04}" for number in range(0, n, n // k)][:k]

    outcomes = delete(registry, *wanted, storage=MemoryStorage(registry))

    assert all(isinstance(outcome, Deletion) for outcome in outcomes)
    assert len(registry.tagged) == len(registry.manifests) == n - k
    assert len(registry.calls) <= n + 3 * k + 10


def test_a_tag_that_a_push_moves_at_any_request_keeps_its_platforms() -> None:
    shared, own = image("shared"), image("own")
    pushed = index(shared, image("new"))
    for number in range(1, 40):
        registry = MemoryRegistry()
        registry.push("v1", shared, own, index(shared, own))
        for other in range(6):
            registry.push(f"other{other}", image(str(other)))

        def push(registry: MemoryRegistry = registry) -> None:
            registry.push("other3", shared, image("new"), pushed)

        registry.before[number] = push
        delete(registry, "app:v1", storage=MemoryStorage(registry))
        if number > len(registry.calls):
            return
        assert registry.is_whole("other3"), registry.calls[number - 1]
    raise AssertionError("more requests than expected")


def test_the_storage_of_another_registry_is_not_believed() -> None:
    registry, another = MemoryRegistry(), MemoryRegistry()
    shared = image("shared")
    for memory in (registry, another):
        memory.push("v1", shared)
        for other in range(6):
            memory.push(f"other{other}", image(str(other)))
    # here, but not there, another tag stands for the image
    registry.push("other3", shared)

    (outcome,) = delete(registry, "app:v1", storage=MemoryStorage(another))

    assert outcome.manifests == ()
    assert registry.is_whole("other3")


def test_a_tag_beside_one_with_a_damaged_link_is_removed_from_the_storage() -> None:
    registry = MemoryRegistry()
    registry.push("v1", kept := image("v1"))
    registry.push("damaged", image("damaged"))
    registry.unreadable_links = {"damaged"}

    (outcome,) = delete(registry, "app:v1", storage=MemoryStorage(registry))

    assert isinstance(outcome, Deletion)
    assert set(registry.tagged) == {"damaged"}
    assert not [manifest for manifest in registry.manifests.values() if manifest.is_placeholder]
    assert kept.digest in registry.manifests, "the damaged tag may need it"


def test_without_the_storage_the_tag_is_as_before_and_the_error_says_what_to_delete_first() -> None:
    registry = MemoryRegistry()
    registry.push("v1", image("v1"))
    registry.push("damaged", image("damaged"))
    registry.unreadable_links = {"damaged"}
    before = (dict(registry.tagged), dict(registry.manifests))

    (error,) = delete(registry, "app:v1")

    assert isinstance(error, Unavailable)
    assert error.next_step == "delete app:damaged first"
    assert (registry.tagged, registry.manifests) == before
    assert all(isinstance(outcome, Deletion) for outcome in delete(registry, "app:damaged", "app:v1"))
    assert registry.tagged == {}


@pytest.mark.parametrize("damaged", [False, True])
def test_a_tag_that_the_registry_cannot_write_is_removed_from_the_storage(damaged: bool) -> None:
    """A full disk, or something in the place of a file of the tag."""
    registry = MemoryRegistry()
    registry.push("v1", shared := image("v1"))
    registry.push("v1-again", shared)
    registry.push("alone", alone := image("alone"))
    registry.full = True
    if damaged:
        registry.unreadable_links = {"alone"}

    outcomes = delete(registry, "app:v1", "app:alone", storage=MemoryStorage(registry))

    assert all(isinstance(outcome, Deletion) for outcome in outcomes), outcomes
    assert set(registry.tagged) == {"v1-again"}
    assert (alone.digest in registry.manifests) == damaged
    assert registry.is_whole("v1-again")


def test_a_tag_that_was_pushed_meanwhile_is_not_removed_from_the_storage() -> None:
    registry, another = MemoryRegistry(), MemoryRegistry()
    registry.push("v1", shared := image("v1"))
    registry.push("v1-again", shared)
    another.push("v1", image("new"))
    registry.full = True

    (error,) = delete(registry, "app:v1", storage=MemoryStorage(another))

    assert isinstance(error, NotStored)
    assert set(another.tagged) == {"v1"}
    assert set(registry.tagged) == {"v1", "v1-again"}


def test_a_damaged_manifest_is_deleted_by_its_digest_beside_another_damage() -> None:
    registry = MemoryRegistry()
    registry.push("v1", damaged := image("v1"))
    registry.push("other", image("other"))
    registry.damaged = set(registry.manifests)

    (outcome,) = delete(registry, f"app@{damaged.digest}")

    assert isinstance(outcome, Deletion), outcome
    assert set(registry.tagged) == {"other"}


class LeavesDirectory(MemoryRegistry):
    """Removes the link of a tag, and leaves its directory: a file in it belongs to another user."""

    def delete_manifest(self, image: ImageReference) -> bool:
        known = super().delete_manifest(image)
        self.tagged.setdefault("v1", "")
        return known


def test_what_the_registry_leaves_of_a_tag_is_removed_from_the_storage() -> None:
    for reachable in (True, False):
        registry = LeavesDirectory()
        registry.push("v1", image("v1"))
        (outcome,) = delete(registry, "app:v1", storage=MemoryStorage(registry) if reachable else None)
        assert isinstance(outcome, Deletion) == reachable
        assert ("v1" in registry.tagged) != reachable
