"""The delete's procedure against a registry in memory: failures and pushes at every single request."""

from __future__ import annotations

import contextlib
import functools
import json
from typing import Any

import pytest

from sysreg_cli.errors import Conflict, NotFound, NotStored, NotSupported, ProtocolError, Unavailable
from sysreg_cli.reference import parse
from sysreg_cli.registry.deletion import Deletion, delete_image
from sysreg_cli.registry.manifests import OCI_INDEX, RemoteManifest
from tests.unit.registry.memory import MemoryRegistry, image, index

_AMD, _ARM, _OTHER = image("amd64"), image("arm64"), image("other")
_INDEX = index(_AMD, _ARM)
# More than any delete here needs; the loops end at the first one that is not reached.
_MAX_REQUESTS = 60


def _registry(**options: Any) -> MemoryRegistry:
    registry = MemoryRegistry(**options)
    registry.push("v1", _AMD, _ARM, _INDEX)
    registry.push("other", _OTHER)
    return registry


def delete(registry: Any, image: str, **options: Any) -> Deletion:
    return delete_image(registry, parse(image), **options)


def _fail() -> None:
    raise Unavailable("the registry went away")


def test_distribution_3_is_asked_to_delete_the_tag_and_nothing_is_written() -> None:
    registry = _registry(deletes_tags=True)
    registry.push("v2", _INDEX)

    deletion = delete(registry, "app:v1")

    assert not deletion.recorded
    assert "delete v1" in registry.calls
    assert not [call for call in registry.calls if call.startswith("put")]
    assert registry.is_whole("v2")
    assert set(registry.tagged) == {"v2", "other"}


def test_distribution_3_loses_the_image_with_its_last_tag_too() -> None:
    registry = _registry(deletes_tags=True)
    deletion = delete(registry, "app:v1")
    assert set(deletion.manifests) == {_INDEX.digest, _AMD.digest, _ARM.digest}
    assert set(registry.manifests) == {_OTHER.digest}


def test_a_delete_that_moved_its_tag_has_a_record() -> None:
    assert delete(_registry(), "app:v1").recorded


def test_a_read_only_registry_is_left_as_it_is() -> None:
    registry = _registry(read_only=True)
    with pytest.raises(NotSupported):
        delete(registry, "app:v1")
    assert registry.is_whole("v1")


def test_on_a_full_disk_an_image_goes_with_nothing_written() -> None:
    registry = _registry(full=True)
    registry.push("platform", _ARM)
    deletion = delete(registry, "app:v1")
    assert not deletion.recorded
    assert set(deletion.manifests) == {_INDEX.digest, _AMD.digest}
    assert set(registry.tagged) == {"other", "platform"}
    assert registry.is_whole("platform")


def test_on_a_full_disk_a_tag_with_a_sibling_stays_and_it_is_said_what_to_delete_first() -> None:
    registry = _registry(full=True)
    registry.push("v2", _INDEX)
    with pytest.raises(NotStored) as refused:
        delete(registry, "app:v1")
    assert "has no other tag" in refused.value.next_step
    assert registry.is_whole("v1")
    assert registry.is_whole("v2")


@pytest.mark.parametrize(
    "options", [{}, {"deletes_tags": True}, {"full": True}], ids=["2.8", "3", "2.8 on a full disk"]
)
def test_one_failing_request_changes_nothing_or_the_next_run_finishes_it(options: dict[str, bool]) -> None:
    outcomes = set()
    for number in range(1, _MAX_REQUESTS):
        registry = _registry(**options)
        registry.push("sibling", _ARM)
        before = (dict(registry.manifests), dict(registry.tagged))
        registry.before[number] = _fail
        try:
            delete(registry, "app:v1")
        except Unavailable as error:
            outcomes.add(error.next_step.partition(":")[0])
            assert registry.is_whole("other")
            assert registry.is_whole("sibling")
            if not error.next_step:
                assert (registry.manifests, registry.tagged) == before or "v1" not in registry.tagged
            elif "half done" in error.next_step:
                delete(registry, "app:v1")
                assert set(registry.manifests) == {_OTHER.digest, _ARM.digest}
            assert registry.is_whole("other")
            assert registry.is_whole("sibling")
        else:
            assert number > len(registry.calls), "a failure was passed over"
            break
    assert "" in outcomes
    assert len(outcomes) > 1


@pytest.mark.parametrize("full", [False, True], ids=["2.8", "2.8 on a full disk"])
def test_an_interrupt_changes_nothing_or_says_what_is_half_done(full: bool) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    messages = set()
    for number in range(1, _MAX_REQUESTS):
        registry = _registry(full=full)
        before = (dict(registry.manifests), dict(registry.tagged))
        registry.before[number] = interrupt
        try:
            delete(registry, "app:v1")
        except KeyboardInterrupt as stopped:
            messages.add(str(stopped))
            if str(stopped):
                delete(registry, "app:v1")
                assert set(registry.manifests) == {_OTHER.digest}
            else:
                assert (registry.manifests, registry.tagged) == before or "v1" not in registry.tagged
            assert registry.is_whole("other")
        else:
            break
    assert messages == {
        "",
        "interrupted: app:v1: the delete is half done: run the same command again to finish it",
    }


def test_an_interrupt_after_distribution_3_deleted_the_tag_says_how_to_free_its_image() -> None:
    registry = _registry(deletes_tags=True)

    def interrupt() -> None:
        raise KeyboardInterrupt

    delete(registry, "app:v1")
    last = len(registry.calls) - 1
    registry = _registry(deletes_tags=True)
    registry.before[last - 1] = interrupt
    with pytest.raises(KeyboardInterrupt, match="app:v1: the tag is gone; registry-garbage-collect"):
        delete(registry, "app:v1")


def test_a_platform_that_a_push_shares_meanwhile_is_there_in_the_end() -> None:
    for number in range(1, _MAX_REQUESTS):
        registry = _registry()
        meanwhile = index(_ARM, _OTHER)

        def push(registry: MemoryRegistry = registry, new: Any = meanwhile) -> None:
            # as a client does: a platform that is there is not sent again, one that is gone is
            registry.push("new", _ARM, _OTHER, new)

        registry.before[number] = push
        delete(registry, "app:v1")
        if number > len(registry.calls):
            return
        # Behind the last look, the push itself finds the platform gone and sends it.
        assert registry.is_whole("new"), f"push before request {number}: {registry.calls}"
    raise AssertionError


def test_the_same_image_pushed_under_another_tag_meanwhile_stays() -> None:
    lost = []
    for number in range(1, _MAX_REQUESTS):
        registry = _registry()
        registry.before[number] = functools.partial(registry.push, "new", _AMD, _ARM, _INDEX)
        delete(registry, "app:v1")
        if number > len(registry.calls):
            break
        if "new" not in registry.tagged or not registry.is_whole("new"):
            lost.append(registry.calls[number - 1])
    # The one gap that 2.8 leaves: between the look at all tags and the delete right behind it.
    assert set(lost) <= {"get other", "get v1", "get new", f"delete {_INDEX.digest}"}


def test_a_tag_that_is_pushed_anew_meanwhile_stays_and_is_told() -> None:
    registry = _registry()
    new = image("new")
    hooks = {"done": False}

    def push_when_moved() -> None:
        if not hooks["done"] and any(call == "put v1" for call in registry.calls[:-1]):
            hooks["done"] = True
            registry.push("v1", new)

    registry.before = dict.fromkeys(range(1, _MAX_REQUESTS), push_when_moved)
    deletion = delete(registry, "app:v1")

    assert registry.tagged["v1"] == new.digest
    assert registry.is_whole("v1")
    assert deletion.warnings == ("app:v1 was pushed again meanwhile, and stays",)
    assert set(registry.manifests) == {_OTHER.digest, new.digest}


def test_two_deletes_of_the_same_tag_at_once_both_end_well() -> None:
    for number in range(1, _MAX_REQUESTS):
        registry = _registry()
        nested = {"on": False}

        def other(registry: MemoryRegistry = registry, nested: dict[str, bool] = nested) -> None:
            if not nested["on"]:
                nested["on"] = True
                registry.before.clear()
                with contextlib.suppress(NotFound):  # the outer one was first
                    delete(registry, "app:v1")

        registry.before[number] = other
        with contextlib.suppress(NotFound):  # the inner one was first
            delete(registry, "app:v1")
        if not nested["on"]:
            return
        assert set(registry.tagged) == {"other"}
        assert set(registry.manifests) == {_OTHER.digest}, f"second delete before request {number}"


def test_a_digest_with_two_tags_needs_a_yes() -> None:
    registry = _registry()
    registry.push("v2", _INDEX)
    with pytest.raises(Conflict, match="v1, v2"):
        delete(registry, f"app@{_INDEX.digest}")
    assert registry.is_whole("v1")
    delete(registry, f"app@{_INDEX.digest}", all_tags=True)
    assert set(registry.tagged) == {"other"}


def test_a_part_of_a_tagged_index_is_never_deleted_by_its_digest() -> None:
    registry = _registry()
    with pytest.raises(Conflict, match="a part of the image app:v1"):
        delete(registry, f"app@{_ARM.digest}", all_tags=True)
    assert registry.is_whole("v1")


# Damaged manifests: the registry answers 500 for them


def _damaged_sibling(registry: MemoryRegistry, *parts: RemoteManifest) -> MemoryRegistry:
    """Push the tag ``damaged`` that the registry cannot read."""
    registry.push("damaged", *(parts or (image("damaged"),)))
    registry.damaged.add(registry.tagged["damaged"])
    return registry


@pytest.mark.parametrize("options", [{}, {"deletes_tags": True}], ids=["2.8", "3"])
def test_a_tag_beside_an_unreadable_one_is_deleted_and_what_that_may_need_stays(
    options: dict[str, bool],
) -> None:
    registry = _damaged_sibling(_registry(**options), _AMD, index(_AMD))
    deletion = delete(registry, "app:v1")
    assert set(registry.tagged) == {"other", "damaged"}
    assert {_INDEX.digest, _AMD.digest, _ARM.digest} <= set(registry.manifests)
    assert deletion.manifests == ()
    assert deletion.warnings == ("app:damaged cannot be read, and may need the image, which stays",)


def test_an_unreadable_tag_on_the_same_image_keeps_the_image() -> None:
    registry = _registry()
    registry.push("v2", _INDEX)
    registry.damaged.add(_INDEX.digest)
    delete(registry, "app:v1")
    assert registry.tagged["v2"] == _INDEX.digest
    assert registry.is_whole("v2")


def test_on_a_full_disk_nothing_is_deleted_that_an_unreadable_tag_may_need() -> None:
    registry = _damaged_sibling(_registry(full=True))
    before = (dict(registry.manifests), dict(registry.tagged))
    with pytest.raises(NotStored):
        delete(registry, "app:v1")
    assert (registry.manifests, registry.tagged) == before


def test_a_tag_whose_manifest_is_gone_stops_no_other_delete() -> None:
    registry = _registry()
    registry.push("gone", gone := image("gone"))
    del registry.manifests[gone.digest]
    assert set(delete(registry, "app:v1").manifests) == {_INDEX.digest, _AMD.digest, _ARM.digest}
    assert set(registry.tagged) == {"other", "gone"}


@pytest.mark.parametrize("options", [{}, {"deletes_tags": True}], ids=["2.8", "3"])
def test_an_unreadable_tag_is_deleted_alone_and_the_warning_names_what_is_left(
    options: dict[str, bool],
) -> None:
    registry = _damaged_sibling(_registry(**options))
    registry.push("also-damaged", image("damaged"))
    deletion = delete(registry, "app:damaged")
    assert set(registry.tagged) == {"v1", "other", "also-damaged"}
    assert registry.is_whole("v1")
    assert "delete app@DIGEST" in deletion.warnings[0]


@pytest.mark.parametrize("full", [False, True], ids=["2.8", "2.8 on a full disk"])
def test_a_damaged_digest_is_deleted_with_its_tag(full: bool) -> None:
    registry = _damaged_sibling(_registry(full=full))
    digest = registry.tagged["damaged"]
    deletion = delete(registry, f"app@{digest}")
    assert (deletion.tags, deletion.manifests) == (("damaged",), (digest,))
    assert set(registry.tagged) == {"v1", "other"}
    assert digest not in registry.manifests


def test_a_damaged_digest_with_two_tags_needs_a_yes() -> None:
    registry = _damaged_sibling(_registry())
    registry.push("also-damaged", image("damaged"))
    with pytest.raises(Conflict, match="also-damaged, damaged"):
        delete(registry, f"app@{registry.tagged['damaged']}")


def test_a_digest_that_an_unreadable_tag_may_need_is_refused_and_deleted_after_that_tag() -> None:
    registry = _damaged_sibling(_registry(), _OTHER, index(_OTHER))
    with pytest.raises(Conflict, match="app:damaged cannot be read") as refused:
        delete(registry, f"app@{_OTHER.digest}")
    assert refused.value.next_step == "delete app:damaged first"
    delete(registry, "app:damaged")
    delete(registry, f"app@{_OTHER.digest}")
    assert set(registry.tagged) == {"v1"}


def test_a_damaged_digest_that_the_registry_cannot_delete_is_left_as_it_is_with_its_tag() -> None:
    registry = _damaged_sibling(_registry())
    registry.undeletable.add(digest := registry.tagged["damaged"])
    with pytest.raises(ProtocolError) as refused:
        delete(registry, f"app@{digest}")
    assert refused.value.next_step == "push it again"
    assert registry.tagged["damaged"] == digest


def test_a_damaged_platform_that_the_registry_cannot_delete_stops_no_delete() -> None:
    registry = _registry()
    registry.damaged.add(_ARM.digest)
    registry.undeletable.add(_ARM.digest)
    deletion = delete(registry, "app:v1")
    assert set(deletion.manifests) == {_INDEX.digest, _AMD.digest}
    assert deletion.warnings == (f"deleting app@{_ARM.digest} failed; push it again",)
    assert set(registry.tagged) == {"other"}


def test_one_failing_request_beside_damaged_manifests_never_breaks_another_tag() -> None:
    for target in ("app:v1", "app:damaged", f"app@{image('damaged').digest}"):
        for number in range(1, _MAX_REQUESTS):
            registry = _damaged_sibling(_registry())
            registry.push("sibling", _ARM)
            registry.before[number] = _fail
            try:
                delete(registry, target)
            except Unavailable as error:
                if "half done" in error.next_step:
                    delete(registry, target)
            assert registry.is_whole("other")
            assert registry.is_whole("sibling")
            if number > len(registry.calls):
                break
        assert len(registry.tagged) == 3


# A build cache of buildx is an index whose entries are layers


def _cache() -> RemoteManifest:
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:" + "c" * 64}
    return RemoteManifest(OCI_INDEX, json.dumps({"schemaVersion": 2, "manifests": [layer]}).encode())


@pytest.mark.parametrize("tag", ["cache", "v1"])
def test_a_build_cache_and_a_tag_beside_it_are_deleted(tag: str) -> None:
    registry = _registry()
    registry.push("cache", cache := _cache())
    registry.damaged.add("sha256:" + "c" * 64)  # 2.8 answers 500 for a layer that is read as a manifest
    registry.manifests["sha256:" + "c" * 64] = image("layer")
    deleted = {cache.digest} if tag == "cache" else {_INDEX.digest, _AMD.digest, _ARM.digest}
    assert set(delete(registry, f"app:{tag}").manifests) == deleted
