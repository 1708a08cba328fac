"""What is said about the end of a garbage collection."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sysreg_cli.cli.collection_report import cancelled_line, lines, report, require_done
from sysreg_cli.errors import SysregError
from sysreg_cli.v1.collections import (
    CollectionOptions,
    CollectionPlan,
    CollectionResult,
    Outcome,
    PlannedBlob,
)

DONE = CollectionResult("1", CollectionOptions(), "then", outcome=Outcome.DONE, duration=1.0)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (
            1,
            [
                "Freed 1 blob, 1 byte in 1.0 s; writes were held for 0.0 s",
                "Removed 1 untagged manifest, 1 empty repository",
                "Kept 1 blob that the registry's collector would have deleted",
            ],
        ),
        (
            2,
            [
                "Freed 2 blobs, 2 bytes in 1.0 s; writes were held for 0.0 s",
                "Removed 2 untagged manifests, 2 empty repositories",
                "Kept 2 blobs that the registry's collector would have deleted",
            ],
        ),
    ],
)
def test_one_and_several_are_told_apart(number: int, expected: list[str]) -> None:
    result = replace(DONE, blobs=number, bytes=number, manifests=number, repositories=number, pinned=number)
    assert list(lines(result, None)) == expected


def test_several_holds_are_told_with_the_longest() -> None:
    (line,) = lines(replace(DONE, holds=3, writes_held=160.25, longest_hold=75.0), None)
    assert line.endswith("; writes were held for 160.2 s, in 3 pieces of at most 75.0 s")


def test_what_a_restart_ended_is_told() -> None:
    result = replace(DONE, ended_writes="uploads under way: app (for 400 s)")
    assert "Restarted the registry to end uploads under way: app (for 400 s)" in lines(result, None)
    assert report(result)["ended_writes"] == result.ended_writes


def test_a_dry_run_lists_its_plan() -> None:
    result = replace(DONE, options=CollectionOptions(dry_run=True), blobs=1, bytes=5, manifests=1)
    plan = CollectionPlan((PlannedBlob("sha256:0a", 5),), ("app@sha256:0b",), ("empty",))
    assert list(lines(result, plan)) == [
        "Would free 1 blob, 5 bytes",
        "Would remove 1 untagged manifest",
        "blob sha256:0a 5",
        "manifest app@sha256:0b",
        "repository empty",
    ]


def test_sizes_that_are_not_known_are_left_out() -> None:
    result = replace(DONE, blobs=2, sizes_known=False)
    assert next(lines(result, None)).startswith("Freed 2 blobs in 1.0 s")
    assert report(result)["bytes"] is None


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (replace(DONE, outcome=Outcome.FAILED, error="no space"), "garbage collection failed: no space"),
        (
            replace(DONE, outcome=Outcome.FAILED, error="no space", blobs=2, bytes=7),
            "garbage collection failed: no space (until then freed: 2 blobs, 7 bytes)",
        ),
        (replace(DONE, outcome="postponed", error="tired"), "garbage collection postponed: tired"),
    ],
)
def test_every_other_end_is_an_error(result: CollectionResult, message: str) -> None:
    with pytest.raises(SysregError) as caught:
        require_done(result)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (replace(DONE, outcome=Outcome.CANCELLED, phase="mark"), "was cancelled in the phase mark"),
        (replace(DONE, outcome=Outcome.CANCELLED), "was cancelled"),
        (DONE, "has ended (done)"),
    ],
)
def test_a_cancel_says_what_became_of_the_collection(result: CollectionResult, line: str) -> None:
    assert cancelled_line(result) == f"The garbage collection {line}"
