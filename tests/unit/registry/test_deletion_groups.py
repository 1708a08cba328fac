"""Several arguments deleted with one command: the number of requests, failures and kills."""

from __future__ import annotations

import functools
from collections import Counter

import pytest

from sysreg_cli.errors import Conflict, NotFound, NotStored, Unavailable
from sysreg_cli.reference import parse
from sysreg_cli.registry.deletion import Deletion
from tests.unit.registry.deletion_group import (
    AMD,
    DIGEST,
    GROUP,
    INDEX,
    MAX_REQUESTS,
    OPTIONS,
    OTHER,
    SINGLE,
    Killed,
    assert_finished,
    assert_others_whole,
    delete,
    failures,
    group_registry,
    raise_,
)
from tests.unit.registry.memory import MemoryRegistry, image


def test_20_of_1000_tags_take_3_requests_each_and_two_readings_of_which_one_is_cheap() -> None:
    registry = MemoryRegistry()
    for number in range(1000):
        registry.push(f"v{number:04}", image(str(number)))
    wanted = [f"app:v{number:04}" for number in range(0, 1000, 50)]

    outcomes = delete(registry, *wanted)

    assert not failures(outcomes)
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
    assert not failures(outcomes)
    assert len(registry.calls) <= 200 + 3 * count + 10


def test_each_is_reported_in_the_order_given_with_what_was_deleted_with_it() -> None:
    registry = group_registry()
    outcomes = delete(registry, "app:v1", "app:never", "app:v2", f"app@{DIGEST.digest}", "app:single")
    assert list(outcomes) == ["app:v1", "app:never", "app:v2", f"app@{DIGEST.digest}", "app:single"]
    assert isinstance(outcomes.pop("app:never"), NotFound)
    deletions = [outcome for outcome in outcomes.values() if isinstance(outcome, Deletion)]
    # What two of them stood for goes with the last one.
    assert [deletion.manifests for deletion in deletions] == [
        (),
        (INDEX.digest,),
        (DIGEST.digest,),
        (SINGLE.digest,),
    ]
    assert [deletion.tags for deletion in deletions] == [("v1",), ("v2",), ("digest",), ("single",)]
    assert registry.is_whole("partly")
    assert registry.is_whole("sibling")


@OPTIONS
def test_a_dry_run_says_what_the_command_deletes_and_changes_nothing(options: dict[str, bool]) -> None:
    registry = group_registry(**options)
    before = (dict(registry.manifests), dict(registry.tagged))
    promised = delete(registry, *GROUP, dry_run=True)
    assert (registry.manifests, registry.tagged) == before
    done = delete(registry, *GROUP)
    for name, outcome in promised.items():
        other = done[name]
        assert isinstance(outcome, Deletion)
        assert isinstance(other, Deletion)
        assert set(outcome.manifests) == set(other.manifests), name
    assert_finished(registry)


@pytest.mark.parametrize("wanted", [("app:v1", "app:v2", "app@"), ("app@", "app:v1"), ("app:single", "app@")])
@OPTIONS
def test_a_digest_beside_its_own_tags_is_deleted_once(
    wanted: tuple[str, ...], options: dict[str, bool]
) -> None:
    digest = (SINGLE if "app:single" in wanted else INDEX).digest
    registry = group_registry(**options)
    outcomes = delete(
        registry, *(f"app@{digest}" if name == "app@" else name for name in wanted), all_tags=True
    )
    assert not failures(outcomes)
    assert digest not in registry.manifests
    assert digest not in registry.tagged.values()


def test_a_digest_with_several_tags_is_allowed_once_the_other_tags_are_deleted_before_it() -> None:
    registry = group_registry()
    assert isinstance(delete(registry, f"app@{INDEX.digest}", "app:v1")[f"app@{INDEX.digest}"], Conflict)
    assert set(registry.tagged) == {"v2", "partly", "single", "digest", "other", "sibling"}
    registry = group_registry()
    assert not failures(delete(registry, "app:v1", f"app@{INDEX.digest}"))
    assert INDEX.digest not in registry.manifests


@OPTIONS
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
def test_a_failure_at_any_request_leaves_others_whole_and_the_same_command_finishes_it(
    options: dict[str, bool], lasting: bool
) -> None:
    for number in range(1, MAX_REQUESTS):
        registry = group_registry(**options)
        end = 10 * MAX_REQUESTS if lasting else number + 1
        registry.before = dict.fromkeys(range(number, end), functools.partial(raise_, Unavailable))

        outcomes = delete(registry, *GROUP)

        assert_others_whole(registry)
        failed = failures(outcomes)
        for name in GROUP:
            if name not in failed:
                assert parse(name).tag not in registry.tagged
                assert parse(name).digest not in registry.manifests
        registry.before.clear()
        for name, outcome in delete(registry, *failed).items():
            assert isinstance(outcome, (Deletion, NotFound)), name
        assert_others_whole(registry)
        assert set(registry.tagged) == {"other", "sibling"}
        if not any("--delete-untagged" in error.next_step for error in failed.values()):
            assert_finished(registry)
        if number > len(registry.calls):
            return
    raise AssertionError


@pytest.mark.parametrize("options", [{}, {"full": True}], ids=["2.8", "2.8 on a full disk"])
@pytest.mark.parametrize("again", [GROUP, GROUP[::-1]], ids=["the same command", "in another order"])
def test_killed_before_any_request_others_are_whole_and_the_same_command_finishes_it(
    options: dict[str, bool], again: tuple[str, ...]
) -> None:
    for number in range(1, MAX_REQUESTS):
        registry = group_registry(**options)
        registry.before[number] = functools.partial(raise_, Killed)
        try:
            delete(registry, *GROUP)
        except Killed:
            assert_others_whole(registry)
            failed = failures(delete(registry, *again))
            assert {type(error) for error in failed.values()} <= {NotFound}
            assert_finished(registry)
        else:
            return
    raise AssertionError


def test_after_a_kill_one_tag_is_finished_and_those_beside_it_on_the_placeholder_stay() -> None:
    finished_alone = 0
    for number in range(1, MAX_REQUESTS):
        registry = group_registry()
        registry.before[number] = functools.partial(raise_, Killed)
        try:
            delete(registry, *GROUP)
        except Killed:
            tagged = set(registry.tagged)
            shared = "v1" in tagged and registry.manifests[registry.tagged["v1"]].is_placeholder
            failed = failures(delete(registry, "app:v1"))
            assert set(registry.tagged) == tagged - {"v1"}
            assert bool(failed) == ("v1" not in tagged)
            finished_alone += shared
            assert_others_whole(registry)
            delete(registry, *GROUP)
            assert_finished(registry)
        else:
            assert finished_alone > 5
            return
    raise AssertionError


def test_an_interrupt_names_all_that_is_half_done() -> None:
    registry = group_registry()

    def interrupt() -> None:
        if registry.calls[-1] == f"delete {SINGLE.digest}":
            raise KeyboardInterrupt

    registry.before = dict.fromkeys(range(1, MAX_REQUESTS), interrupt)
    with pytest.raises(KeyboardInterrupt) as stopped:
        delete(registry, *GROUP)
    assert str(stopped.value) == (
        "interrupted: app:v1, app:single, app:v2, app:digest, app:partly: the delete is half done:"
        " run the same command again to finish it"
    )
    registry.before.clear()
    delete(registry, *GROUP)
    assert_finished(registry)


def test_the_damage_of_one_stops_no_other() -> None:
    registry = group_registry()
    registry.undeletable.add(SINGLE.digest)
    outcomes = delete(registry, *GROUP)
    assert list(failures(outcomes)) == ["app:single"]
    assert registry.tagged["single"] == SINGLE.digest
    assert set(registry.tagged) == {"other", "sibling", "single"}
    assert set(registry.manifests) == {OTHER.digest, AMD.digest, SINGLE.digest}


def test_on_a_full_disk_what_another_tag_needs_stays_and_the_others_go() -> None:
    registry = group_registry(full=True)
    outcomes = delete(registry, "app:v1", "app:single", "app:partly")
    assert [type(error) for error in failures(outcomes).values()] == [NotStored]
    assert set(registry.tagged) == {"v1", "v2", "digest", "other", "sibling"}
    assert all(registry.is_whole(tag) for tag in registry.tagged)


def test_on_a_full_disk_a_damaged_image_keeps_the_others_and_each_says_why() -> None:
    registry = group_registry(full=True)
    registry.damaged.add(SINGLE.digest)
    before = (dict(registry.manifests), dict(registry.tagged))
    outcomes = delete(registry, "app:single", f"app@{INDEX.digest}", "app:v1", "app:v2", all_tags=True)
    assert [type(outcome) for outcome in outcomes.values()] == [NotStored] * 4
    assert (registry.manifests, registry.tagged) == before


def test_a_disk_that_is_full_after_some_tags_were_moved_takes_the_others_in_place() -> None:
    registry = group_registry()

    def fill() -> None:
        registry.full = registry.calls[-1] == "put single"

    registry.before = dict.fromkeys(range(1, MAX_REQUESTS), fill)
    assert not failures(delete(registry, *GROUP))
    assert_finished(registry)


def test_another_tag_that_is_gone_is_named() -> None:
    registry = group_registry()

    def push() -> None:
        if registry.calls[-1] == f"delete {SINGLE.digest}":
            registry.push("other", SINGLE)

    registry.before = dict.fromkeys(range(1, MAX_REQUESTS), push)
    deletion = delete(registry, "app:single")["app:single"]
    assert isinstance(deletion, Deletion)
    assert deletion.warnings == ("app:other is gone: push it again if nobody else deleted it",)
