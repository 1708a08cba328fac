"""The drain, on a fake clock, with simulated pushers."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sysreg_cli.agent.garbage.drain import Drain, DrainTimeouts
from sysreg_cli.errors import SysregError

Sleep = Callable[[float, float, str], None]

ACCEPTED = 66.0
TIMEOUTS = DrainTimeouts(limit=1800, hold=75)
# How much later than planned a step of the drain may come.
TICK = 0.11


@dataclass
class Pusher:
    """Uploads one blob after the other: each takes ``takes`` seconds, with ``rests`` between two. Keeps a
    token for 60 s, as clients do, and waits for a new one while writes are held.
    """

    takes: float
    rests: float
    starts: float = 0.0
    token: float = -1000.0
    until: float | None = None
    waited: list[float] = field(default_factory=list)

    def step(self, registry: Registry) -> None:
        now = registry.now
        if self.until is not None and now >= self.until:
            self.starts = self.until + self.rests
            self.until = None
        while self.until is None and now >= self.starts:
            if now - self.token >= 60:
                if registry.held_since is not None:
                    return
                self.token = registry.latest = now
            self.waited.append(now - self.starts)
            self.until = now + self.takes


@dataclass
class Registry:
    """Time passes only when the drain sleeps."""

    pushers: list[Pusher] = field(default_factory=list)
    now: float = 0.0
    latest: float = -1000.0
    held_since: float | None = None
    holds: list[tuple[float, float]] = field(default_factory=list)
    restarts: list[str] = field(default_factory=list)
    restart_takes: float = 10.0
    restart_ends_requests: bool = True
    said: list[str] = field(default_factory=list)

    def drain(self, timeouts: DrainTimeouts = TIMEOUTS, sleep: Sleep | None = None) -> Drain:
        self.step()
        return Drain(
            timeouts,
            take_lock=self.take_lock,
            token_life=self.token_life,
            busy=self.busy,
            uploads=lambda: "app (for 400 s)",
            end_requests=self.restart,
            sleep=sleep or self.sleep,
            clock=lambda: self.now,
        )

    @contextlib.contextmanager
    def take_lock(self) -> Iterator[Any]:
        self.held_since = self.now
        try:
            yield None
        finally:
            self.holds.append((self.held_since, self.now))
            self.held_since = None

    def token_life(self) -> float:
        return self.latest + ACCEPTED - self.now

    def busy(self) -> Set[str]:
        return {"blob_upload_chunk"} if any(pusher.until is not None for pusher in self.pushers) else set()

    def restart(self, under_way: str) -> None:
        """End every upload. It begins anew as soon as its pusher gets a token."""
        assert self.held_since is not None
        assert self.token_life() <= 0
        self.now += self.restart_takes
        self.restarts.append(under_way)
        for pusher in self.pushers:
            if pusher.until is not None and self.restart_ends_requests:
                pusher.starts, pusher.until = self.now, None
        self.step()

    def sleep(self, seconds: float, fraction: float, detail: str) -> None:
        assert 0 <= fraction < 1
        assert seconds > 0
        self.now += seconds
        self.said.append(detail)
        self.step()

    def step(self) -> None:
        for pusher in self.pushers:
            pusher.step(self)

    @property
    def windows(self) -> list[float]:
        return [begin - end for (_, end), (begin, _) in zip(self.holds, self.holds[1:], strict=False)]

    @property
    def longest(self) -> float:
        return max(end - begin for begin, end in self.holds)


def test_an_idle_registry_is_swept_at_once() -> None:
    registry = Registry()
    with registry.drain().writes_ended():
        assert registry.held_since == 0.0
    assert registry.said == []


def test_the_last_permission_to_push_is_outwaited_once() -> None:
    registry = Registry([Pusher(takes=0.2, rests=1)])
    with registry.drain().writes_ended():
        assert registry.token_life() <= 0
        assert not registry.busy()
    assert len(registry.holds) == 1
    assert registry.longest < ACCEPTED + 1
    assert any(re.search(r"the last write token to expire, in 6\d s", said) for said in registry.said)


def test_an_upload_of_minutes_holds_nobody_else_for_longer_than_docker_waits() -> None:
    slow, other = Pusher(takes=400, rests=10_000), Pusher(takes=0.5, rests=3)
    registry = Registry([slow, other])
    with registry.drain().writes_ended():
        assert slow.until is None
        assert not registry.busy()
    assert 1 < len(registry.holds) <= 4
    assert registry.longest <= TIMEOUTS.hold + TICK
    assert min(registry.windows) >= TIMEOUTS.release
    # The other one went on between the holds.
    assert max(other.waited) <= TIMEOUTS.hold + TICK
    assert any("the end of uploads under way" in said for said in registry.said)
    assert any("held pushes to go on, 20 s; then try 2" in said for said in registry.said)


def test_a_pause_between_pushes_is_waited_for_before_writes_are_held() -> None:
    registry = Registry([Pusher(takes=45, rests=2), Pusher(takes=0.1, rests=1.5)])
    with registry.drain().writes_ended():
        pass
    assert len(registry.holds) == 1
    assert 45 <= registry.holds[0][0] <= 60


def test_a_moment_within_a_push_is_no_pause() -> None:
    registry = Registry([Pusher(takes=30, rests=0.2)])
    with registry.drain().writes_ended():
        pass
    assert registry.holds[0][0] == pytest.approx(60, abs=TICK)


def test_uploads_that_never_pause_are_ended_in_the_last_try_when_no_token_is_left() -> None:
    pushers = [Pusher(takes=400, rests=0.2, starts=start) for start in (0, 100, 200)]
    registry = Registry([*pushers, other := Pusher(takes=0.5, rests=3)])
    with registry.drain().writes_ended():
        assert registry.held_since is not None
        assert not registry.busy()
    assert registry.restarts == ["uploads under way: app (for 400 s)"]
    assert 2 <= len(registry.holds) <= 6
    assert registry.longest <= TIMEOUTS.hold + registry.restart_takes + TICK
    assert registry.now <= TIMEOUTS.limit
    assert any("then try 2 (uploads under way: app (for 400 s))" in said for said in registry.said)
    assert max(other.waited) <= TIMEOUTS.hold + TICK
    for _ in range(10):  # the lock is released: all go on
        registry.sleep(0.5, 0, "")
    assert all(pusher.until is not None for pusher in pushers)


def test_one_slow_upload_does_not_defeat_a_collection_with_time_for_one_try() -> None:
    registry = Registry([Pusher(takes=1e9, rests=1)])
    with registry.drain(DrainTimeouts(limit=200, hold=75)).writes_ended():
        assert not registry.busy()
    assert len(registry.holds) == len(registry.restarts) == 1
    assert registry.now <= 200


def test_a_registry_that_does_not_end_its_requests_fails_the_collection() -> None:
    registry = Registry([Pusher(takes=1e9, rests=1)], restart_ends_requests=False)
    with (
        pytest.raises(
            SysregError, match=r"restart of the registry did not end .*: app \(for 400 s\); nothing"
        ),
        registry.drain().writes_ended(),
    ):
        pytest.fail("swept beside an upload")
    assert registry.held_since is None
    assert len(registry.restarts) == 1
    assert registry.now <= TIMEOUTS.limit + TICK


def test_a_limit_shorter_than_one_hold_is_kept() -> None:
    registry = Registry([Pusher(takes=1, rests=1)])
    drain = registry.drain(DrainTimeouts(limit=20, hold=75))
    with pytest.raises(SysregError, match="did not end within 20 s: still waiting for the last write token"):
        drain.writes_ended().__enter__()
    assert registry.held_since is None
    assert registry.now <= 20 + TICK


def test_who_ends_the_wait_opens_the_write_lock() -> None:
    registry = Registry([Pusher(takes=500, rests=1)])

    def cancelled(seconds: float, fraction: float, detail: str) -> None:
        registry.sleep(seconds, fraction, detail)
        if registry.held_since is not None:
            raise KeyboardInterrupt

    drain = registry.drain(sleep=cancelled)
    with pytest.raises(KeyboardInterrupt):
        drain.writes_ended().__enter__()
    assert len(registry.holds) == 1
    assert registry.held_since is None


@settings(max_examples=25)
@given(
    st.lists(
        st.builds(
            Pusher,
            takes=st.floats(0.01, 300),
            rests=st.floats(0.01, 60),
            starts=st.floats(0, 100),
        ),
        max_size=4,
    )
)
def test_whoever_pushes_nothing_is_swept_beside_a_write_and_no_hold_is_long(pushers: list[Pusher]) -> None:
    registry = Registry(pushers)
    with registry.drain().writes_ended():
        assert registry.held_since is not None
        longest = TIMEOUTS.hold + len(registry.restarts) * registry.restart_takes
        assert registry.now - registry.held_since <= longest + TICK
        for _ in range(100):  # the sweep
            assert not registry.busy()
            registry.sleep(0.1, 0, "")
    assert registry.held_since is None
    assert all(end - begin <= TIMEOUTS.hold + TICK for begin, end in registry.holds[:-1])
    assert all(window >= TIMEOUTS.release for window in registry.windows)
