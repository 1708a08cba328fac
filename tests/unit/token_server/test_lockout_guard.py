"""For how long the lockout guard keeps refused credentials away from Keystone, whatever its database does."""

import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from sysreg_cli.token_server.credential_cache import Fingerprints
from sysreg_cli.token_server.credentials import from_pair
from sysreg_cli.token_server.lockout_guard import LockoutGuard
from tests.unit.token_server.clock import Clock

MIN, HOUR, DAY = 60, 3600, 86400
PAIR, NAME = b"pair", b"name"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "refused.db"


@pytest.fixture
def start(path: Path, clock: Clock) -> Callable[[], LockoutGuard]:
    """Starts a guard, which knows what the one before stored."""
    return lambda: LockoutGuard(path, clock=clock, max_entries=10)


@pytest.fixture
def guard(start: Callable[[], LockoutGuard]) -> LockoutGuard:
    return start()


def test_refused_credentials_are_asked_again_after_10_minutes_an_hour_and_then_daily(
    guard: LockoutGuard, clock: Clock
) -> None:
    assert guard.seconds_left(PAIR) == 0
    for wait in (10 * MIN, HOUR, DAY, DAY):
        assert guard.add(PAIR, NAME) == wait
        clock.now += wait - 1
        assert guard.seconds_left(PAIR) == 1
        clock.now += 1
        assert guard.seconds_left(PAIR) == 0


def test_refusals_survive_a_restart(start: Callable[[], LockoutGuard], clock: Clock) -> None:
    first = start()
    first.add(PAIR, NAME)
    clock.now += 10 * MIN
    first.add(PAIR, NAME)
    first.close()
    second = start()
    assert second.seconds_left(PAIR) == HOUR
    second.clear()
    second.close()
    assert start().seconds_left(PAIR) == 0


def test_a_login_of_the_user_forgets_the_refusals_of_that_user_only(
    guard: LockoutGuard, start: Callable[[], LockoutGuard]
) -> None:
    guard.add(PAIR, NAME)
    guard.add(b"other", b"other name")
    guard.forget_names({b"name"})
    assert guard.seconds_left(PAIR) == 0
    assert guard.seconds_left(b"other") > 0
    guard.close()
    assert len(start()) == 1


def test_a_clock_that_is_set_back_refuses_no_longer_than_from_now(guard: LockoutGuard, clock: Clock) -> None:
    guard.add(PAIR, NAME)
    clock.now -= 10 * DAY
    assert guard.seconds_left(PAIR) == 10 * MIN
    clock.now += 4 * MIN
    assert guard.seconds_left(PAIR) == 6 * MIN


def test_refusals_are_bounded_and_the_oldest_goes(
    guard: LockoutGuard, start: Callable[[], LockoutGuard], clock: Clock
) -> None:
    for number in range(25):
        clock.now += 1
        guard.add(b"%d" % number, NAME)
    for _ in range(2):
        assert len(guard) == 10
        assert guard.seconds_left(b"24") > 0
        assert guard.seconds_left(b"15") > 0
        assert guard.seconds_left(b"14") == 0
        guard.close()
        guard = start()


def test_a_client_that_sends_many_wrong_pairs_makes_it_forget_only_its_own(
    guard: LockoutGuard, clock: Clock
) -> None:
    guard.add(b"stale secret of a node", NAME, b"node")
    for number in range(100):
        clock.now += 1
        guard.add(b"%d" % number, NAME, b"flood")
    assert len(guard) == 10
    assert guard.seconds_left(b"stale secret of a node") > 0
    assert guard.seconds_left(b"99") > 0
    clock.now += HOUR
    for number in range(100):
        guard.add(b"99", NAME, b"flood")
        guard.add(b"other %d" % number, NAME, b"flood")
    assert guard.seconds_left(b"99") == DAY


def test_a_database_of_0_1_0_keeps_its_refusals(
    path: Path, start: Callable[[], LockoutGuard], clock: Clock
) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript("""
            CREATE TABLE refused
                (pair BLOB PRIMARY KEY, name BLOB NOT NULL, refused_at REAL NOT NULL, times INTEGER NOT NULL);
            CREATE INDEX refused_by_time ON refused (refused_at);
        """)
        database.execute("INSERT INTO refused VALUES (?, ?, ?, 2)", (PAIR, NAME, clock.now))
        database.commit()
    guard = start()
    assert guard.seconds_left(PAIR) == HOUR
    guard.add(b"other", NAME, b"client")
    assert len(guard) == 2


@pytest.mark.parametrize("damage", [b"no database at all", b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_damaged_database_is_replaced(path: Path, start: Callable[[], LockoutGuard], damage: bytes) -> None:
    path.write_bytes(damage)
    guard = start()
    guard.add(PAIR, NAME)
    guard.close()
    assert start().seconds_left(PAIR) > 0


def test_a_database_of_another_layout_is_replaced(path: Path, start: Callable[[], LockoutGuard]) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE refused (something)")
    guard = start()
    guard.add(PAIR, NAME)
    guard.close()
    assert start().seconds_left(PAIR) > 0


def test_a_database_with_a_column_of_a_later_version_is_used(
    path: Path, guard: LockoutGuard, start: Callable[[], LockoutGuard]
) -> None:
    guard.add(b"before", NAME)
    guard.close()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("ALTER TABLE refused ADD COLUMN later TEXT")
    guard = start()
    guard.add(PAIR, NAME)
    guard.close()
    assert len(start()) == 2


def test_a_database_that_cannot_be_opened_is_left_alone_and_the_memory_serves(
    path: Path, guard: LockoutGuard, start: Callable[[], LockoutGuard], caplog: pytest.LogCaptureFixture
) -> None:
    guard.add(PAIR, NAME)
    guard.close()
    before = path.read_bytes()
    wal = path.with_name("refused.db-wal")
    wal.mkdir()  # SQLite reports the same error for a full disk
    second = start()
    assert "unable to open database file" in caplog.text
    assert second.add(b"other", NAME) == 10 * MIN
    assert second.seconds_left(b"other") == 10 * MIN
    second.clear()
    assert second.seconds_left(b"other") == 0
    second.close()
    assert path.read_bytes() == before
    wal.rmdir()
    assert start().seconds_left(PAIR) == 10 * MIN


def test_a_disk_too_full_for_a_new_database_leaves_the_memory_right(
    start: Callable[[], LockoutGuard], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        guard = start()
    assert "No space left on device" in caplog.text
    guard.add(PAIR, NAME)
    assert guard.seconds_left(PAIR) == 10 * MIN


def test_after_a_write_that_failed_the_memory_serves_until_the_next_reload(
    path: Path, guard: LockoutGuard, start: Callable[[], LockoutGuard], caplog: pytest.LogCaptureFixture
) -> None:
    guard.add(b"before", NAME)
    with contextlib.closing(sqlite3.connect(path)) as disk:
        disk.execute("CREATE TRIGGER full BEFORE INSERT ON refused BEGIN SELECT RAISE(FAIL, 'full'); END")
    guard.add(PAIR, NAME)
    assert "won't survive a restart: full" in caplog.text
    assert guard.seconds_left(PAIR) == guard.seconds_left(b"before") == 10 * MIN
    with contextlib.closing(sqlite3.connect(path)) as disk:
        disk.execute("DROP TRIGGER full")
    guard.clear()
    guard.add(b"after", NAME)
    guard.close()
    assert len(start()) == 1


def test_the_files_hold_no_credentials_and_are_for_their_owner_alone(path: Path, guard: LockoutGuard) -> None:
    fingerprints = Fingerprints(path.parent)
    fingerprint = fingerprints.of_credentials(from_pair("nameofauser", "secretofauser"))
    guard.add(fingerprint, fingerprints.of_name("nameofauser"))
    files = list(path.parent.iterdir())
    assert len(files) >= 3
    for file in files:
        assert file.stat().st_mode & 0o077 == 0
        assert b"ofauser" not in file.read_bytes()
