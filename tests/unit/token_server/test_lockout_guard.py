"""For how long the lockout guard keeps refused credentials away from Keystone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sysreg_cli.token_server.lockout_guard import LockoutGuard
from sysreg_cli.token_server.refusal_store import RefusalStore
from tests.unit.token_server.clock import Clock

MIN, HOUR, DAY = 60, 3600, 86400
PAIR, NAME = b"pair", b"name"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def start(tmp_path: Path, clock: Clock) -> Callable[[], LockoutGuard]:
    """Starts the guard; the next one sees what the one before stored."""
    return lambda: LockoutGuard(RefusalStore(tmp_path / "refused.db"), clock=clock, max_entries=10)


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
