"""When writes are held, and when nobody writes any more: on a clock of our own, with pushers that obey it."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sysreg_cli.agent.garbage.drain import Drain, Patience, writing
from sysreg_cli.agent.garbage.registry_config import RegistryConfig
from sysreg_cli.errors import SysregError, Unavailable

ACCEPTED = 66.0
PATIENCE = Patience(limit=1800, hold=75)
# What one look at the clock may be late.
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
            self.starts, self.until = self.until + self.rests, None
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
    said: list[str] = field(default_factory=list)

    def drain(self, patience: Patience = PATIENCE) -> Drain:
        self.step()
        return Drain(
            patience,
            take=self.take,
            permitted=self.permitted,
            busy=self.busy,
            sleep=self.sleep,
            clock=lambda: self.now,
        )

    @contextlib.contextmanager
    def take(self) -> Iterator[Any]:
        self.held_since = self.now
        try:
            yield None
        finally:
            self.holds.append((self.held_since, self.now))
            self.held_since = None

    def permitted(self) -> float:
        return self.latest + ACCEPTED - self.now

    def busy(self) -> Set[str]:
        return {"blob_upload_chunk"} if any(pusher.until is not None for pusher in self.pushers) else set()

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
        assert registry.permitted() <= 0
        assert not registry.busy()
    assert len(registry.holds) == 1
    assert registry.longest < ACCEPTED + 1
    assert any(re.search(r"the last permission to push, in 6\d s", said) for said in registry.said)


def test_an_upload_of_minutes_holds_nobody_else_for_longer_than_docker_waits() -> None:
    slow, other = Pusher(takes=400, rests=10_000), Pusher(takes=0.5, rests=3)
    registry = Registry([slow, other])
    with registry.drain().writes_ended():
        assert slow.until is None
        assert not registry.busy()
    assert 1 < len(registry.holds) <= 4
    assert registry.longest <= PATIENCE.hold + TICK
    assert min(registry.windows) >= PATIENCE.window
    # In each window the other one went on.
    assert max(other.waited) <= PATIENCE.hold + TICK
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


def test_uploads_that_never_pause_end_the_attempt_and_not_the_pushes() -> None:
    pushers = [Pusher(takes=400, rests=0.2, starts=start) for start in (0, 100, 200)]
    registry = Registry(pushers)
    drain = registry.drain()
    with pytest.raises(SysregError) as caught, drain.writes_ended():
        pytest.fail("swept beside an upload")
    assert registry.held_since is None
    assert re.match(
        "pushes did not end within 1800 s: .*uploads under way; nothing was removed", str(caught.value)
    )
    assert len(registry.holds) <= 6
    assert registry.longest <= PATIENCE.hold + TICK
    assert registry.now <= PATIENCE.limit + TICK


def test_a_limit_shorter_than_one_hold_is_kept() -> None:
    registry = Registry([Pusher(takes=1, rests=1)])
    drain = registry.drain(Patience(limit=20, hold=75))
    with pytest.raises(SysregError, match="did not end within 20 s: still waiting for the end of the last"):
        drain.writes_ended().__enter__()
    assert registry.held_since is None
    assert registry.now <= 20 + TICK


def test_who_ends_the_wait_opens_the_write_lock() -> None:
    registry = Registry([Pusher(takes=500, rests=1)])

    def cancelled(seconds: float, fraction: float, detail: str) -> None:
        registry.sleep(seconds, fraction, detail)
        if registry.held_since is not None:
            raise KeyboardInterrupt

    drain = registry.drain()
    drain._sleep = cancelled
    with pytest.raises(KeyboardInterrupt):
        drain.writes_ended().__enter__()
    assert len(registry.holds) == 1
    assert registry.held_since is None


@settings(deadline=None, max_examples=25)
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
    with contextlib.suppress(SysregError), registry.drain().writes_ended():
        assert registry.held_since is not None
        assert registry.now - registry.held_since <= PATIENCE.hold + TICK
        for _ in range(100):  # the sweep
            assert not registry.busy()
            registry.sleep(0.1, 0, "")
    assert registry.held_since is None
    assert all(end - begin <= PATIENCE.hold + TICK for begin, end in registry.holds[:-1])
    assert all(window >= PATIENCE.window for window in registry.windows)


# -- the registry's gauges -----------------------------------------------------------------------------

Gauges = tuple[RegistryConfig, list[dict[str, int]]]


@pytest.fixture
def gauges() -> Iterator[Gauges]:
    """A debug address that shows what stands in the list, one entry after the other; the last one stays."""
    shown: list[dict[str, int]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            values = shown.pop(0) if len(shown) > 1 else shown[0]
            body = "".join(
                f'registry_http_in_flight_requests{{handler="{handler}"}} {value}\n'
                for handler, value in values.items()
            ).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"127.0.0.1:{server.server_port}"
    yield RegistryConfig(Path("c"), "filesystem", None, debug=address, listen=address), shown
    server.shutdown()
    server.server_close()


def test_each_handler_that_writes_has_to_be_seen_idle_once(gauges: Gauges) -> None:
    config, shown = gauges
    idle = {"manifest": 0, "blob_upload": 0, "blob_upload_chunk": 0, "blob": 7}
    shown += [idle | {"blob_upload_chunk": 1}, idle | {"blob_upload_chunk": 1, "manifest": 3}]
    shown += [idle | {"manifest": 2}, idle | {"manifest": 9}]
    waits: list[str] = []
    with Drain(
        Patience(limit=100, hold=100),
        take=contextlib.nullcontext,  # type: ignore[arg-type]
        permitted=lambda: 0.0 if waits else 1.0,
        busy=lambda: writing(config),
        sleep=lambda seconds, fraction, detail: waits.append(detail),
        clock=lambda: 0.0 if not waits else 2.0,
    ).writes_ended():
        pass
    assert waits[-1] == "waits for the end of uploads under way"
    assert len(waits) == 3


def test_a_registry_that_shows_no_gauges_is_an_error(gauges: Gauges) -> None:
    config, shown = gauges
    shown.append({})
    with pytest.raises(Unavailable, match="shows no requests in flight"):
        writing(config)


def test_a_registry_that_does_not_run_writes_nothing() -> None:
    config = RegistryConfig(Path("c"), "filesystem", None, debug="127.0.0.1:1", listen="127.0.0.1:1")
    assert writing(config) == set()
