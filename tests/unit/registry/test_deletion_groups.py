"""Several arguments deleted with one command: the number of requests, failures, kills and pushes."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from sysreg_cli.errors import Conflict, NotFound, NotStored, ProtocolError, SysregError, Unavailable
from sysreg_cli.reference import parse
from sysreg_cli.registry.deletion import Deletion, delete_images
from sysreg_cli.registry.manifests import RemoteManifest
from tests.unit.registry.memory import MemoryRegistry, image, index

_AMD, _ARM, _S390, _SINGLE, _OTHER = (image(name) for name in ("amd64", "arm64", "s390x", "single", "other"))
_INDEX, _PARTLY = index(_AMD, _ARM), index(_ARM, _S390)
_DIGEST = image("digest")
#: v1 and v2 share all, partly shares a platform with them, single is alone, digest is deleted by its digest
_GROUP = ("app:v1", "app:single", "app:v2", f"app@{_DIGEST.digest}", "app:partly")
# More than any delete here needs; the loops end at the first one that is not reached.
_MAX_REQUESTS = 400
_OPTIONS = pytest.mark.parametrize(
    "options", [{}, {"deletes_tags": True}, {"full": True}], ids=["2.8", "3", "2.8 on a full disk"]
)


def _registry(**options: bool) -> MemoryRegistry:
    registry = MemoryRegistry(**options)
    registry.push("v1", _AMD, _ARM, _INDEX)
    registry.push("v2", _INDEX)
    registry.push("partly", _S390, _PARTLY)
    registry.push("single", _SINGLE)
    registry.push("digest", _DIGEST)
    registry.push("other", _OTHER)
    registry.push("sibling", _AMD)
    return registry


def delete(registry: Any, *images: str, **options: Any) -> dict[str, Deletion | SysregError]:
    outcomes = delete_images(registry, [parse(image) for image in images], **options)
    return {str(image): outcome for image, outcome in outcomes}


def _failed(outcomes: dict[str, Deletion | SysregError]) -> dict[str, SysregError]:
    return {image: outcome for image, outcome in outcomes.items() if isinstance(outcome, SysregError)}


def _assert_finished(registry: MemoryRegistry) -> None:
    assert registry.tagged == {"other": _OTHER.digest, "sibling": _AMD.digest}
    assert set(registry.manifests) == {_OTHER.digest, _AMD.digest}


def _assert_others_whole(registry: MemoryRegistry) -> None:
    assert registry.is_whole("other")
    assert registry.is_whole("sibling")


class _Killed(BaseException):
    """The process is killed: nothing that it would do after this is done."""


def _raise(error: type[BaseException]) -> None:
    raise error("at this request")


def test_20_of_1000_tags_take_3_requests_each_and_two_readings_of_which_one_is_cheap() -> None:
    registry = MemoryRegistry()
    for number in range(1000):
        registry.push(f"v{number:04}", image(str(number)))
    wanted = [f"app:v{number:04}" for number in range(0, 1000, 50)]

    outcomes = delete(registry, *wanted)

    assert not _failed(outcomes)
    assert len(registry.tagged) == len(registry.manifests) == 980
    calls = Counter(call.split()[0] for call in registry.calls)
    assert calls["get"] == 1000
    assert calls["check"] == 1000
    assert sum(calls.values()) - 2000 <= 3 * 20 + 10, calls


@pytest.mark.parametrize("count", [1, 20])
def test_tags_whose_images_have_other_tags_cost_one_reading(count: int) -> None:
    registry = MemoryRegistry()
    for number in range(200):
        registry.push(f"v{number:04}", image(str(number // 2)))
    outcomes = delete(registry, *(f"app:v{number:04}" for number in range(0, 2 * count, 2)))
    assert not _failed(outcomes)
    assert len(registry.calls) <= 200 + 3 * count + 10


def test_each_is_reported_in_the_order_given_with_what_was_deleted_with_it() -> None:
    registry = _registry()
    outcomes = delete(registry, "app:v1", "app:never", "app:v2", f"app@{_DIGEST.digest}", "app:single")
    assert list(outcomes) == ["app:v1", "app:never", "app:v2", f"app@{_DIGEST.digest}", "app:single"]
    assert isinstance(outcomes.pop("app:never"), NotFound)
    deletions = [outcome for outcome in outcomes.values() if isinstance(outcome, Deletion)]
    # What two of them stood for goes with the last one.
    assert [deletion.manifests for deletion in deletions] == [
        (),
        (_INDEX.digest,),
        (_DIGEST.digest,),
        (_SINGLE.digest,),
    ]
    assert [deletion.tags for deletion in deletions] == [("v1",), ("v2",), ("digest",), ("single",)]
    assert registry.is_whole("partly")
    assert registry.is_whole("sibling")


@_OPTIONS
def test_a_dry_run_says_what_the_command_deletes_and_changes_nothing(options: dict[str, bool]) -> None:
    registry = _registry(**options)
    before = (dict(registry.manifests), dict(registry.tagged))
    promised = delete(registry, *_GROUP, dry_run=True)
    assert (registry.manifests, registry.tagged) == before
    done = delete(registry, *_GROUP)
    for name, outcome in promised.items():
        other = done[name]
        assert isinstance(outcome, Deletion)
        assert isinstance(other, Deletion)
        assert set(outcome.manifests) == set(other.manifests), name
    _assert_finished(registry)


@pytest.mark.parametrize("wanted", [("app:v1", "app:v2", "app@"), ("app@", "app:v1"), ("app:single", "app@")])
@_OPTIONS
def test_a_digest_beside_its_own_tags_is_deleted_once(
    wanted: tuple[str, ...], options: dict[str, bool]
) -> None:
    digest = (_SINGLE if "app:single" in wanted else _INDEX).digest
    registry = _registry(**options)
    outcomes = delete(
        registry, *(f"app@{digest}" if name == "app@" else name for name in wanted), all_tags=True
    )
    assert not _failed(outcomes)
    assert digest not in registry.manifests
    assert digest not in registry.tagged.values()


def test_a_digest_with_several_tags_is_allowed_once_the_other_tags_are_deleted_before_it() -> None:
    registry = _registry()
    assert isinstance(delete(registry, f"app@{_INDEX.digest}", "app:v1")[f"app@{_INDEX.digest}"], Conflict)
    assert set(registry.tagged) == {"v2", "partly", "single", "digest", "other", "sibling"}
    registry = _registry()
    assert not _failed(delete(registry, "app:v1", f"app@{_INDEX.digest}"))
    assert _INDEX.digest not in registry.manifests


@_OPTIONS
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
def test_a_failure_at_any_request_leaves_others_whole_and_the_same_command_finishes_it(
    options: dict[str, bool], lasting: bool
) -> None:
    for number in range(1, _MAX_REQUESTS):
        registry = _registry(**options)
        end = 10 * _MAX_REQUESTS if lasting else number + 1
        registry.before = dict.fromkeys(range(number, end), functools.partial(_raise, Unavailable))

        outcomes = delete(registry, *_GROUP)

        _assert_others_whole(registry)
        failed = _failed(outcomes)
        for name in _GROUP:
            if name not in failed:
                assert parse(name).tag not in registry.tagged
                assert parse(name).digest not in registry.manifests
        registry.before.clear()
        for name, outcome in delete(registry, *failed).items():
            assert isinstance(outcome, (Deletion, NotFound)), name
        _assert_others_whole(registry)
        assert set(registry.tagged) == {"other", "sibling"}
        if not any("--delete-untagged" in error.next_step for error in failed.values()):
            _assert_finished(registry)
        if number > len(registry.calls):
            return
    raise AssertionError


@pytest.mark.parametrize("options", [{}, {"full": True}], ids=["2.8", "2.8 on a full disk"])
@pytest.mark.parametrize("again", [_GROUP, _GROUP[::-1]], ids=["the same command", "in another order"])
def test_killed_before_any_request_others_are_whole_and_the_same_command_finishes_it(
    options: dict[str, bool], again: tuple[str, ...]
) -> None:
    for number in range(1, _MAX_REQUESTS):
        registry = _registry(**options)
        registry.before[number] = functools.partial(_raise, _Killed)
        try:
            delete(registry, *_GROUP)
        except _Killed:
            _assert_others_whole(registry)
            failed = _failed(delete(registry, *again))
            assert {type(error) for error in failed.values()} <= {NotFound}
            _assert_finished(registry)
        else:
            return
    raise AssertionError


def test_after_a_kill_one_tag_is_finished_and_those_beside_it_on_the_placeholder_stay() -> None:
    finished_alone = 0
    for number in range(1, _MAX_REQUESTS):
        registry = _registry()
        registry.before[number] = functools.partial(_raise, _Killed)
        try:
            delete(registry, *_GROUP)
        except _Killed:
            tagged = set(registry.tagged)
            shared = "v1" in tagged and registry.manifests[registry.tagged["v1"]].is_placeholder
            failed = _failed(delete(registry, "app:v1"))
            assert set(registry.tagged) == tagged - {"v1"}
            assert bool(failed) == ("v1" not in tagged)
            finished_alone += shared
            _assert_others_whole(registry)
            delete(registry, *_GROUP)
            _assert_finished(registry)
        else:
            assert finished_alone > 5
            return
    raise AssertionError


def test_an_interrupt_names_all_that_is_half_done() -> None:
    registry = _registry()

    def interrupt() -> None:
        if registry.calls[-1] == f"delete {_SINGLE.digest}":
            raise KeyboardInterrupt

    registry.before = dict.fromkeys(range(1, _MAX_REQUESTS), interrupt)
    with pytest.raises(KeyboardInterrupt) as stopped:
        delete(registry, *_GROUP)
    assert str(stopped.value) == (
        "interrupted: app:v1, app:single, app:v2, app:digest, app:partly: the delete is half done:"
        " run the same command again to finish it"
    )
    registry.before.clear()
    delete(registry, *_GROUP)
    _assert_finished(registry)


def test_the_damage_of_one_stops_no_other() -> None:
    registry = _registry()
    registry.undeletable.add(_SINGLE.digest)
    outcomes = delete(registry, *_GROUP)
    assert list(_failed(outcomes)) == ["app:single"]
    assert registry.tagged["single"] == _SINGLE.digest
    assert set(registry.tagged) == {"other", "sibling", "single"}
    assert set(registry.manifests) == {_OTHER.digest, _AMD.digest, _SINGLE.digest}


def test_on_a_full_disk_what_another_tag_needs_stays_and_the_others_go() -> None:
    registry = _registry(full=True)
    outcomes = delete(registry, "app:v1", "app:single", "app:partly")
    assert [type(error) for error in _failed(outcomes).values()] == [NotStored]
    assert set(registry.tagged) == {"v1", "v2", "digest", "other", "sibling"}
    assert all(registry.is_whole(tag) for tag in registry.tagged)


def test_on_a_full_disk_a_damaged_image_keeps_the_others_and_each_says_why() -> None:
    registry = _registry(full=True)
    registry.damaged.add(_SINGLE.digest)
    before = (dict(registry.manifests), dict(registry.tagged))
    outcomes = delete(registry, "app:single", f"app@{_INDEX.digest}", "app:v1", "app:v2", all_tags=True)
    assert [type(outcome) for outcome in outcomes.values()] == [NotStored] * 4
    assert (registry.manifests, registry.tagged) == before


def test_a_disk_that_is_full_after_some_tags_were_moved_takes_the_others_in_place() -> None:
    registry = _registry()

    def fill() -> None:
        registry.full = registry.calls[-1] == "put single"

    registry.before = dict.fromkeys(range(1, _MAX_REQUESTS), fill)
    assert not _failed(delete(registry, *_GROUP))
    _assert_finished(registry)


def test_another_tag_that_is_gone_is_named() -> None:
    registry = _registry()

    def push() -> None:
        if registry.calls[-1] == f"delete {_SINGLE.digest}":
            registry.push("other", _SINGLE)

    registry.before = dict.fromkeys(range(1, _MAX_REQUESTS), push)
    deletion = delete(registry, "app:single")["app:single"]
    assert isinstance(deletion, Deletion)
    assert deletion.warnings == ("app:other is gone: push it again if nobody else deleted it",)


def _pushes(push: Callable[[MemoryRegistry], None], **options: bool) -> list[tuple[str, MemoryRegistry]]:
    """Delete the group once for each request, with a push before it. Return that request and what is left."""
    left: list[tuple[str, MemoryRegistry]] = []
    for number in range(1, _MAX_REQUESTS):
        registry = _registry(**options)
        registry.before[number] = functools.partial(push, registry)
        assert not _failed(delete(registry, *_GROUP))
        if number > len(registry.calls):
            return left
        left.append((registry.calls[number - 1], registry))
    raise AssertionError


@pytest.mark.parametrize("tag", ["new", "other", "single"])
@pytest.mark.parametrize("options", [{}, {"deletes_tags": True}], ids=["2.8", "3"])
def test_a_tag_that_begins_to_share_platforms_meanwhile_is_whole_in_the_end(
    tag: str, options: dict[str, bool]
) -> None:
    shares = index(_S390, _ARM, _OTHER)
    nested = index(_PARTLY, _INDEX)
    for pushed in (shares, nested):

        def push(registry: MemoryRegistry, pushed: RemoteManifest = pushed) -> None:
            registry.push(tag, _S390, _ARM, _AMD, _OTHER, _PARTLY, _INDEX, pushed)

        for call, registry in _pushes(push, **options):
            # A tag of the group that is pushed before it is deleted is deleted, too.
            if tag != "single" or tag in registry.tagged:
                assert registry.tagged[tag] == pushed.digest, call
                assert registry.is_whole(tag), call


@pytest.mark.parametrize("options", [{}, {"deletes_tags": True}], ids=["2.8", "3"])
def test_the_same_image_under_a_new_tag_is_lost_only_between_its_last_listing_and_its_delete(
    options: dict[str, bool],
) -> None:
    left = _pushes(lambda registry: registry.push("new", _AMD, _ARM, _INDEX), **options)
    lost = [call for call, registry in left if "new" not in registry.tagged or not registry.is_whole("new")]
    assert lost == [f"delete {_INDEX.digest}"]


def test_the_same_image_under_an_existing_tag_is_lost_only_between_its_reading_and_the_delete() -> None:
    left = _pushes(lambda registry: registry.push("other", _AMD, _ARM, _INDEX))
    calls = [call for call, _ in left]
    lost = [number for number, (_, registry) in enumerate(left) if "other" not in registry.tagged]
    assert all(registry.is_whole("other") for number, (_, registry) in enumerate(left) if number not in lost)
    assert min(lost) >= calls.index("get other")
    assert max(lost) == calls.index(f"delete {_INDEX.digest}")


def test_an_untagged_index_that_a_push_names_meanwhile_is_put_back_with_its_platforms() -> None:
    for number in range(1, _MAX_REQUESTS):
        registry = _registry()
        registry.push("gone", _DIGEST, untagged := index(_SINGLE, _DIGEST))
        del registry.tagged["gone"], registry.tagged["digest"]
        parts = (_SINGLE, _DIGEST, untagged, index(untagged))
        registry.before[number] = functools.partial(registry.push, "new", *parts)
        delete(registry, "app:single", f"app@{untagged.digest}")
        if number > len(registry.calls):
            return
        assert registry.is_whole("new"), registry.calls[number - 1]
    raise AssertionError


def test_what_cannot_be_put_back_is_an_error_that_names_the_tag_to_push_again() -> None:
    registry = _registry()
    shares = index(_S390, _OTHER)

    def push_and_fill() -> None:
        if registry.calls[-1] == f"delete {_S390.digest}":
            registry.push("new", _S390, _OTHER, shares)
            registry.full = True

    registry.before = dict.fromkeys(range(1, _MAX_REQUESTS), push_and_fill)
    outcomes = delete(registry, *_GROUP)
    (error,) = _failed(outcomes).values()
    assert isinstance(error, ProtocolError)
    assert f"app:new was pushed meanwhile and lacks {_S390.digest}" in error.message
    assert error.next_step == "push app:new again"
    assert set(registry.tagged) == {"other", "sibling", "new"}


def test_two_deletes_of_groups_that_overlap_both_end_well() -> None:
    for number in range(1, _MAX_REQUESTS):
        registry = _registry()
        inner: list[dict[str, Deletion | SysregError]] = []

        def other(registry: MemoryRegistry = registry, inner: list[Any] = inner) -> None:
            registry.before.clear()
            inner.append(delete(registry, *_GROUP[::-1]))

        registry.before[number] = other
        outer = delete(registry, *_GROUP)
        if not inner:
            return
        for outcomes in (outer, *inner):
            assert {type(error) for error in _failed(outcomes).values()} <= {NotFound}
        _assert_finished(registry)
    raise AssertionError


def test_a_delete_that_an_older_version_left_half_done_is_finished_in_a_group() -> None:
    registry = _registry()
    names = {"throw-away": "1", "releases": f"{_PARTLY.digest} {_ARM.digest} {_S390.digest}"}
    annotations = ", ".join(f'"org.starlingx.sysreg.{key}": "{value}"' for key, value in names.items())
    old = RemoteManifest(_INDEX.media_type, f'{{"manifests": [], "annotations": {{{annotations}}}}}'.encode())
    registry.push("partly", old)
    assert not _failed(delete(registry, *_GROUP))
    _assert_finished(registry)
