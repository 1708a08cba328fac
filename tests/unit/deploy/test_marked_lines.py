"""Lines in a file of another program: added, repaired and removed, and the rest left byte by byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from sysreg_cli.deploy.file import MarkedLines, split_marked
from tests.unit.deploy.machine import apply, context_of, required

_MARKED = b"# begin sysreg-deploy\nours\n# end sysreg-deploy\n"


@pytest.mark.parametrize(
    ("theirs", "whole"),
    [
        (b"theirs\n", b"theirs\n" + _MARKED),
        (b"no end of line", b"no end of line\n" + _MARKED),
        (b"\xff\xfe not UTF-8\n", b"\xff\xfe not UTF-8\n" + _MARKED),
        (b"", _MARKED),
    ],
)
def test_lines_are_added_at_the_end(tmp_path: Path, theirs: bytes, whole: bytes) -> None:
    context, lines = context_of(tmp_path / "state"), MarkedLines(tmp_path / "hosts", "ours\n")
    lines.path.write_bytes(theirs)
    lines.path.chmod(0o600)
    apply(lines, context)
    assert lines.path.read_bytes() == whole
    assert lines.path.stat().st_mode & 0o777 == 0o600
    assert lines.remove(context)
    assert lines.path.read_bytes().rstrip() == theirs.rstrip()
    assert lines.remove(context) == ""


def test_lines_that_changed_are_replaced_where_they_are(tmp_path: Path) -> None:
    context, lines = context_of(tmp_path / "state"), MarkedLines(tmp_path / "hosts", "new\n")
    lines.path.write_bytes(b"before\n" + _MARKED + b"after\n")
    assert "-ours\n+new" in required(lines, context).diff
    apply(lines, context)
    assert split_marked(lines.path.read_text()) == ("before\n", "new\n", "after\n")


def test_a_file_that_was_made_for_the_lines_goes_with_them(tmp_path: Path) -> None:
    context, lines = context_of(tmp_path / "state"), MarkedLines(tmp_path / "made/hosts", "ours\n")
    apply(lines, context)
    lines.remove(context)
    assert not lines.path.exists()


def test_what_a_killed_run_left_beside_the_file_is_removed(tmp_path: Path) -> None:
    context, lines = context_of(tmp_path / "state"), MarkedLines(tmp_path / "hosts", "ours\n")
    leftover = tmp_path / ".sysreg-hosts.0123"
    leftover.touch()
    apply(lines, context)
    assert not leftover.exists()
    leftover.touch()
    lines.remove(context)
    assert not leftover.exists()
