"""Pushes beside a delete of several arguments with one command."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from sysreg_cli.errors import NotFound, ProtocolError, SysregError
from sysreg_cli.registry.deletion import Deletion
from sysreg_cli.registry.manifests import RemoteManifest
from tests.unit.registry.deletion_group import (
    AMD,
    ARM,
    DIGEST,
    GROUP,
    INDEX,
    MAX_REQUESTS,
    OTHER,
    PARTLY,
    S390,
    SINGLE,
    assert_finished,
    delete,
    failures,
    group_registry,
)
from tests.unit.registry.memory import MemoryRegistry, index


def _pushes(push: Callable[[MemoryRegistry], None], **options: bool) -> list[tuple[str, MemoryRegistry]]:
    """Delete the group once for each request, with a push before it. Return that request and what is left."""
    left: list[tuple[str, MemoryRegistry]] = []
    for number in range(1, MAX_REQUESTS):
        registry = group_registry(**options)
        registry.before[number] = functools.partial(push, registry)
        assert not failures(delete(registry, *GROUP))
        if number > len(registry.calls):
            return left
        left.append((registry.calls[number - 1], registry))
    raise AssertionError


@pytest.mark.parametrize("tag", ["new", "other", "single"])
@pytest.mark.parametrize("options", [{}, {"deletes_tags": True}], ids=["2.8", "3"])
def test_a_tag_that_begins_to_share_platforms_meanwhile_is_whole_in_the_end(
    tag: str, options: dict[str, bool]
) -> None:
    shares = index(S390, ARM, OTHER)
    nested = index(PARTLY, INDEX)
    for pushed in (shares, nested):

        def push(registry: MemoryRegistry, pushed: RemoteManifest = pushed) -> None:
            registry.push(tag, S390, ARM, AMD, OTHER, PARTLY, INDEX, pushed)

        for call, registry in _pushes(push, **options):
            # A tag of the group that is pushed before it is deleted is deleted, too.
            if tag != "single" or tag in registry.tagged:
                assert registry.tagged[tag] == pushed.digest, call
                assert registry.is_whole(tag), call


@pytest.mark.parametrize("options", [{}, {"deletes_tags": True}], ids=["2.8", "3"])
def test_the_same_image_under_a_new_tag_is_lost_only_between_its_last_listing_and_its_delete(
    options: dict[str, bool],
) -> None:
    left = _pushes(lambda registry: registry.push("new", AMD, ARM, INDEX), **options)
    lost = [call for call, registry in left if "new" not in registry.tagged or not registry.is_whole("new")]
    assert lost == [f"delete {INDEX.digest}"]


def test_the_same_image_under_an_existing_tag_is_lost_only_between_its_reading_and_the_delete() -> None:
    left = _pushes(lambda registry: registry.push("other", AMD, ARM, INDEX))
    calls = [call for call, _ in left]
    lost = [number for number, (_, registry) in enumerate(left) if "other" not in registry.tagged]
    assert all(registry.is_whole("other") for number, (_, registry) in enumerate(left) if number not in lost)
    assert min(lost) >= calls.index("get other")
    assert max(lost) == calls.index(f"delete {INDEX.digest}")


def test_an_untagged_index_that_a_push_names_meanwhile_is_put_back_with_its_platforms() -> None:
    for number in range(1, MAX_REQUESTS):
        registry = group_registry()
        registry.push("gone", DIGEST, untagged := index(SINGLE, DIGEST))
        del registry.tagged["gone"], registry.tagged["digest"]
        parts = (SINGLE, DIGEST, untagged, index(untagged))
        registry.before[number] = functools.partial(registry.push, "new", *parts)
        delete(registry, "app:single", f"app@{untagged.digest}")
        if number > len(registry.calls):
            return
        assert registry.is_whole("new"), registry.calls[number - 1]
    raise AssertionError


def test_what_cannot_be_put_back_is_an_error_that_names_the_tag_to_push_again() -> None:
    registry = group_registry()
    shares = index(S390, OTHER)

    def push_and_fill() -> None:
        if registry.calls[-1] == f"delete {S390.digest}":
            registry.push("new", S390, OTHER, shares)
            registry.full = True

    registry.before = dict.fromkeys(range(1, MAX_REQUESTS), push_and_fill)
    outcomes = delete(registry, *GROUP)
    (error,) = failures(outcomes).values()
    assert isinstance(error, ProtocolError)
    assert f"app:new was pushed meanwhile and lacks {S390.digest}" in error.message
    assert error.next_step == "push app:new again"
    assert set(registry.tagged) == {"other", "sibling", "new"}


def test_two_deletes_of_groups_that_overlap_both_end_well() -> None:
    for number in range(1, MAX_REQUESTS):
        registry = group_registry()
        inner: list[dict[str, Deletion | SysregError]] = []

        def other(registry: MemoryRegistry = registry, inner: list[Any] = inner) -> None:
            registry.before.clear()
            inner.append(delete(registry, *GROUP[::-1]))

        registry.before[number] = other
        outer = delete(registry, *GROUP)
        if not inner:
            return
        for outcomes in (outer, *inner):
            assert {type(error) for error in failures(outcomes).values()} <= {NotFound}
        assert_finished(registry)
    raise AssertionError


def test_a_delete_that_an_older_version_left_half_done_is_finished_in_a_group() -> None:
    registry = group_registry()
    names = {"throw-away": "1", "releases": f"{PARTLY.digest} {ARM.digest} {S390.digest}"}
    annotations = ", ".join(f'"org.starlingx.sysreg.{key}": "{value}"' for key, value in names.items())
    old = RemoteManifest(INDEX.media_type, f'{{"manifests": [], "annotations": {{{annotations}}}}}'.encode())
    registry.push("partly", old)
    assert not failures(delete(registry, *GROUP))
    assert_finished(registry)
