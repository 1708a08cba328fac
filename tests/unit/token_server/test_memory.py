"""What the token server remembers about credentials: how long, across restarts, and how little of them."""

import contextlib
import errno
import os
import sqlite3
from pathlib import Path

import pytest

from sysreg_cli.token_server import memory
from sysreg_cli.token_server.credentials import from_pair
from sysreg_cli.token_server.memory import AcceptedPairs, Fingerprints, RefusedPairs
from sysreg_cli.tokens.grants import Identity

MIN, HOUR, DAY = 60, 3600, 86400


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


PAIR, NAME = b"pair", b"name"


def test_a_refused_pair_is_asked_again_after_10_minutes_an_hour_and_then_daily(
    tmp_path: Path, clock: Clock
) -> None:
    refused = RefusedPairs(tmp_path, clock)
    assert refused.seconds_left(PAIR) == 0
    for wait in (10 * MIN, HOUR, DAY, DAY):
        assert refused.add(PAIR, NAME) == wait
        clock.now += wait - 1
        assert refused.seconds_left(PAIR) == 1
        clock.now += 1
        assert refused.seconds_left(PAIR) == 0


def test_refusals_survive_a_restart(tmp_path: Path, clock: Clock) -> None:
    first = RefusedPairs(tmp_path, clock)
    first.add(PAIR, NAME)
    clock.now += 10 * MIN
    first.add(PAIR, NAME)
    first.close()
    second = RefusedPairs(tmp_path, clock)
    assert second.seconds_left(PAIR) == HOUR
    second.clear()
    second.close()
    assert RefusedPairs(tmp_path, clock).seconds_left(PAIR) == 0


def test_a_login_of_the_user_forgets_the_refusals_of_that_user_only(tmp_path: Path, clock: Clock) -> None:
    refused = RefusedPairs(tmp_path, clock)
    refused.add(PAIR, NAME)
    refused.add(b"other", b"other name")
    refused.forget_names({b"name"})
    assert refused.seconds_left(PAIR) == 0
    assert refused.seconds_left(b"other") > 0
    refused.close()
    assert len(RefusedPairs(tmp_path, clock)) == 1


def test_a_clock_that_is_set_back_refuses_no_longer_than_from_now(tmp_path: Path, clock: Clock) -> None:
    refused = RefusedPairs(tmp_path, clock)
    refused.add(PAIR, NAME)
    clock.now -= 10 * DAY
    assert refused.seconds_left(PAIR) == 10 * MIN


def test_refusals_are_bounded_and_the_oldest_goes(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "MOST_REFUSED", 10)
    refused = RefusedPairs(tmp_path, clock)
    for number in range(25):
        clock.now += 1
        refused.add(b"%d" % number, NAME)
    assert len(refused) == 10
    assert refused.seconds_left(b"24") > 0
    assert refused.seconds_left(b"14") == 0
    refused.close()
    assert sqlite3.connect(tmp_path / "refused.db").execute("SELECT count(*) FROM refused").fetchone() == (
        10,
    )


@pytest.mark.parametrize("damage", [b"no database at all", b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_damaged_database_is_made_anew(tmp_path: Path, clock: Clock, damage: bytes) -> None:
    (tmp_path / "refused.db").write_bytes(damage)
    refused = RefusedPairs(tmp_path, clock)
    refused.add(PAIR, NAME)
    refused.close()
    assert RefusedPairs(tmp_path, clock).seconds_left(PAIR) > 0


def test_a_database_of_another_layout_is_made_anew(tmp_path: Path, clock: Clock) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "refused.db")) as database:
        database.execute("CREATE TABLE refused (something)")
    refused = RefusedPairs(tmp_path, clock)
    refused.add(PAIR, NAME)
    refused.close()
    assert RefusedPairs(tmp_path, clock).seconds_left(PAIR) > 0


def test_a_database_that_cannot_be_opened_is_left_alone_and_the_memory_serves(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    first = RefusedPairs(tmp_path, clock)
    first.add(PAIR, NAME)
    first.close()
    before = (tmp_path / "refused.db").read_bytes()
    (tmp_path / "refused.db-wal").mkdir()  # a full disk makes sqlite say the same
    second = RefusedPairs(tmp_path, clock)
    assert "unable to open database file" in caplog.text
    assert second.add(b"other", NAME) == 10 * MIN
    assert second.seconds_left(b"other") == 10 * MIN
    second.clear()
    second.close()
    assert (tmp_path / "refused.db").read_bytes() == before
    (tmp_path / "refused.db-wal").rmdir()
    assert RefusedPairs(tmp_path, clock).seconds_left(PAIR) == 10 * MIN


def test_a_disk_too_full_for_a_new_database_leaves_the_memory_right(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        refused = RefusedPairs(tmp_path, clock)
    assert "No space left on device" in caplog.text
    refused.add(PAIR, NAME)
    assert refused.seconds_left(PAIR) == 10 * MIN


def test_a_disk_that_takes_nothing_leaves_the_memory_right(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    refused = RefusedPairs(tmp_path, clock)
    refused._database.execute("PRAGMA query_only = ON")
    refused.add(PAIR, NAME)
    assert refused.seconds_left(PAIR) == 10 * MIN
    assert "won't survive a restart" in caplog.text


def test_the_files_hold_no_credentials_and_are_for_their_owner_alone(tmp_path: Path, clock: Clock) -> None:
    fingerprints = Fingerprints(tmp_path)
    refused = RefusedPairs(tmp_path, clock)
    refused.add(
        fingerprints.of_pair(from_pair("nameofauser", "secretofauser")), fingerprints.of_name("nameofauser")
    )
    refused.close()
    for file in tmp_path.iterdir():
        assert file.stat().st_mode & 0o077 == 0
        assert b"ofauser" not in file.read_bytes()


def test_fingerprints_are_the_same_after_a_restart_and_differ_between_controllers(tmp_path: Path) -> None:
    pair = from_pair("a", "bc")
    assert Fingerprints(tmp_path).of_pair(pair) == Fingerprints(tmp_path).of_pair(pair)
    assert Fingerprints(tmp_path).of_pair(pair) != Fingerprints(tmp_path).of_pair(from_pair("ab", "c"))
    assert Fingerprints(tmp_path).of_name("User") == Fingerprints(tmp_path).of_name("uSER")
    before = Fingerprints(tmp_path).of_pair(pair)
    (tmp_path / "key").write_bytes(b"short")
    assert Fingerprints(tmp_path).of_pair(pair) != before


def test_an_accepted_pair_is_kept_for_the_ttl_or_as_long_as_keystone_stands_for_it(clock: Clock) -> None:
    accepted = AcceptedPairs(300, clock)
    accepted.add(b"pair", Identity("a"), lifetime=3600)
    accepted.add(b"short", Identity("b"), lifetime=10)
    accepted.add(b"dead", Identity("c"), lifetime=-1)
    assert accepted.get(b"dead") is None
    clock.now += 9.9
    assert accepted.get(b"short") == Identity("b")
    clock.now += 0.1
    assert accepted.get(b"short") is None
    clock.now += 289.9
    assert accepted.get(b"pair") == Identity("a")
    clock.now += 0.1
    assert accepted.get(b"pair") is None


def test_no_ttl_keeps_nothing_and_the_rest_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = AcceptedPairs(0, clock)
    nothing.add(b"pair", Identity("a"), lifetime=100)
    assert len(nothing) == 0
    monkeypatch.setattr(memory, "MOST_ACCEPTED", 5)
    some = AcceptedPairs(300, clock)
    for number in range(9):
        some.add(b"%d" % number, Identity("a"), lifetime=100)
    assert len(some) == 5
    assert some.get(b"8") is not None
