"""The write lock against the kernel's own locks, with real processes where one dies."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from sysreg_cli.errors import Conflict, Unavailable
from sysreg_cli.tokens.write_lock import LOCK_NAME, RECORD_NAME, WriteLock


def test_issuers_pass_side_by_side(tmp_path: Path) -> None:
    one, other = WriteLock(tmp_path).try_issue(), WriteLock(tmp_path).try_issue()
    assert one is not None
    assert other is not None
    with one, other:
        pass


def test_no_issue_while_the_write_lock_is_held_and_again_afterwards(tmp_path: Path) -> None:
    issuer = WriteLock(tmp_path)
    with WriteLock(tmp_path).hold():
        assert issuer.try_issue() is None
        assert issuer.is_held()
    assert not issuer.is_held()
    assert issuer.try_issue() is not None


def test_a_hold_waits_for_the_issue_under_way(tmp_path: Path) -> None:
    issue = WriteLock(tmp_path).try_issue()
    assert issue is not None
    with issue, pytest.raises(Conflict, match="is under way"):
        WriteLock(tmp_path).hold(wait=0.05)
    WriteLock(tmp_path).hold(wait=0.05).close()


def test_an_inherited_hold_outlives_the_one_who_took_it(tmp_path: Path) -> None:
    hold = WriteLock(tmp_path).hold()
    collector = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[hold.fileno()])
    try:
        hold.close()
        assert WriteLock(tmp_path).is_held()
        with pytest.raises(Conflict):
            WriteLock(tmp_path).hold(wait=0)
    finally:
        collector.communicate()
    assert not WriteLock(tmp_path).is_held()


def test_the_write_lock_falls_when_its_holder_is_killed(tmp_path: Path) -> None:
    hold = WriteLock(tmp_path).hold()
    collector = subprocess.Popen(["sleep", "60"], pass_fds=[hold.fileno()])
    hold.close()
    assert WriteLock(tmp_path).is_held()
    collector.kill()
    collector.wait()
    assert not WriteLock(tmp_path).is_held()


def test_the_latest_issue_is_on_record(tmp_path: Path) -> None:
    write_lock = WriteLock(tmp_path)
    for _ in range(2):
        before = time.time()
        issue = write_lock.try_issue()
        assert issue is not None
        with issue:
            write_lock.record()
        assert before <= WriteLock(tmp_path).latest_write() + 1e-6 <= time.time() + 1e-6


@pytest.mark.parametrize("odd", ["", "yesterday", "nan", "inf", "-5", "99999999999", "\N{SNOWMAN}"])
def test_a_missing_or_odd_record_means_just_now(tmp_path: Path, odd: str) -> None:
    before = time.time()
    assert WriteLock(tmp_path).latest_write() >= before
    (tmp_path / RECORD_NAME).write_text(odd)
    assert before <= WriteLock(tmp_path).latest_write() <= time.time()


def test_a_record_from_before_the_start_of_the_machine_counts_from_the_start(tmp_path: Path) -> None:
    (tmp_path / RECORD_NAME).write_text("1000.0\n")
    started = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    assert WriteLock(tmp_path).latest_write() == pytest.approx(started, abs=1)


def test_a_removed_lock_file_is_not_locked_any_more(tmp_path: Path) -> None:
    issuer = WriteLock(tmp_path)
    assert not issuer.is_held()
    (tmp_path / LOCK_NAME).unlink()
    with WriteLock(tmp_path).hold():
        assert issuer.is_held()


def test_an_unusable_lock_file_issues_nothing(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).mkdir()
    with pytest.raises(Unavailable, match=r"write lock .* can't be used"):
        WriteLock(tmp_path).try_issue()
    with pytest.raises(Unavailable, match=r"write lock .* can't be used"):
        WriteLock(tmp_path).hold()


def test_issuing_leaks_no_descriptor(tmp_path: Path) -> None:
    write_lock = WriteLock(tmp_path)
    write_lock.is_held()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(50):
        write_lock.is_held()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_step_of_the_clock_backwards_makes_no_drain_too_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lock, now = WriteLock(tmp_path), time.time()
    write_lock.record()
    earlier = write_lock.latest_write()
    monkeypatch.setattr("sysreg_cli.tokens.write_lock.time.time", lambda: now - 100)
    write_lock.record()
    assert write_lock.latest_write() == pytest.approx(earlier)
