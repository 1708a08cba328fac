"""What a collection's end looks like as text."""

from __future__ import annotations

from typing import Any

import pytest

from sysreg_cli.agent.garbage.result import Options, Result
from sysreg_cli.cli.garbage import _show_end
from sysreg_cli.cli.options import Invocation


def shown(capsys: pytest.CaptureFixture[str], **facts: Any) -> list[str]:
    result = Result("1", Options(), "then", outcome="done", duration=1.0, **facts)
    _show_end(Invocation(), result.to_json(), {})
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("number", "lines"),
    [
        (
            1,
            [
                "Freed 1 blob, 1 byte in 1.0 s; writes were held for 0.0 s",
                "Removed 1 untagged manifest, 1 empty repository",
                "Kept 1 blob that pushes under way may need",
            ],
        ),
        (
            2,
            [
                "Freed 2 blobs, 2 bytes in 1.0 s; writes were held for 0.0 s",
                "Removed 2 untagged manifests, 2 empty repositories",
                "Kept 2 blobs that pushes under way may need",
            ],
        ),
    ],
)
def test_one_and_several_are_told_apart(
    capsys: pytest.CaptureFixture[str], number: int, lines: list[str]
) -> None:
    names = ("blobs", "bytes", "manifests", "repositories", "pinned")
    assert shown(capsys, **dict.fromkeys(names, number)) == lines


def test_several_holds_are_told_with_the_longest(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = shown(capsys, holds=3, writes_held=160.25, longest_hold=75.0)
    assert line.endswith("; writes were held for 160.2 s, in 3 pieces of at most 75.0 s")
