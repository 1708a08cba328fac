"""How much one client may do."""

from __future__ import annotations

import pytest

from sysreg_cli.daemon.buckets import Buckets


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_burst_passes_and_then_the_rate(clock: Clock) -> None:
    buckets = Buckets(per_second=2.0, burst=5.0, clock=clock)
    assert [buckets.take("a") for _ in range(6)] == [0, 0, 0, 0, 0, 0.5]
    clock.now += 0.5
    assert buckets.take("a") == 0
    assert buckets.take("a") > 0


def test_refused_calls_do_not_push_the_next_one_away(clock: Clock) -> None:
    buckets = Buckets(per_second=1.0, burst=1.0, clock=clock)
    buckets.take("a")
    for _ in range(100):
        assert buckets.take("a") == 1.0
    clock.now += 1.0
    assert buckets.take("a") == 0


def test_one_address_does_not_use_up_another_ones_calls(clock: Clock) -> None:
    buckets = Buckets(per_second=1.0, burst=1.0, clock=clock)
    assert buckets.take("a") == 0
    assert buckets.take("a") > 0
    assert buckets.take("b") == 0


def test_a_rest_fills_up_no_further_than_the_burst(clock: Clock) -> None:
    buckets = Buckets(per_second=1.0, burst=2.0, clock=clock)
    clock.now += 3600
    assert [buckets.take("a") > 0 for _ in range(3)] == [False, False, True]


def test_the_memory_is_bounded(clock: Clock) -> None:
    buckets = Buckets(per_second=1.0, burst=1.0, clock=clock)
    for number in range(10000):
        buckets.take(str(number))
    assert len(buckets) <= 4096
