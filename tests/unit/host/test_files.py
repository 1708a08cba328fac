"""A file is wholly there or not at all, and a private key is never readable for others, not for a moment."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sysreg_cli.host import failpoint, files


def names_in(directory: Path) -> list[str]:
    return [one.name for one in directory.iterdir()]


Failing = Callable[[int, str], None]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Failing:
    """Make the nth failpoint in files.py fail with an error."""

    def set_failing(number: int, error: str) -> None:
        failpoint.reset()
        monkeypatch.setenv(failpoint.VARIABLE, f"{number}:{error}")

    return set_failing


def test_the_file_has_its_content_mode_and_group(tmp_path: Path) -> None:
    files.write(tmp_path / "key", b"secret", mode=0o440, group=os.getgid())
    assert (tmp_path / "key").read_bytes() == b"secret"
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o440
    assert names_in(tmp_path) == ["key"]


@pytest.mark.parametrize("step", [1, 2])
def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path, failing: Failing, step: int) -> None:
    files.write(tmp_path / "file", b"old", mode=0o644)
    failing(step, "ENOSPC")
    with pytest.raises(OSError, match="No space left") as caught:
        files.write(tmp_path / "file", b"new", mode=0o644)
    assert caught.value.errno == errno.ENOSPC
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


@pytest.mark.parametrize("step", [1, 2])
def test_a_link_that_cannot_be_switched_stays(tmp_path: Path, failing: Failing, step: int) -> None:
    files.link(tmp_path / "current", "a")
    failing(step, "EIO")
    with pytest.raises(OSError):
        files.link(tmp_path / "current", "b")
    assert (tmp_path / "current").readlink() == Path("a")
    assert names_in(tmp_path) == ["current"]


def test_a_key_is_never_written_into_a_file_that_others_may_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    monkeypatch.setattr(
        failpoint,
        "reach",
        lambda _name: modes.extend(one.stat().st_mode & 0o777 for one in tmp_path.iterdir()),
    )
    files.write(tmp_path / "key", b"secret", mode=0o440)
    assert modes == [0o600, 0o440]


def test_what_an_interrupted_write_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".sysreg-key.0123abcd").write_bytes(b"half a k")
    (tmp_path / "key").write_bytes(b"key")
    files.remove_leftovers(tmp_path)
    assert names_in(tmp_path) == ["key"]


def test_removing_what_is_not_there_is_fine(tmp_path: Path) -> None:
    files.remove(tmp_path / "nothing")
    files.remove_leftovers(tmp_path / "no directory")
