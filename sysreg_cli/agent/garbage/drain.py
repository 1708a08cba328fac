"""Holds the write lock while no write is under way (docs/contracts.rst, "Garbage collection"). Pure.

The registry checks a token when a request starts. So no write is under way once the last write token has
expired and the requests that began before have ended. The registry counts requests in flight by handler. A
handler that writes also serves reads, so it is enough to see each handler idle once: later requests can't
write.

An upload may take minutes, but docker gives up when it gets no token for about 100 s. So the drain holds the
lock for a limited time, releases it long enough for each held push to go on, and tries again. Before each
try it waits for a pause between pushes, each time for longer: writes that end meanwhile delay nobody.

An upload that never ends would defeat every collection. So in the last try, a restart of the registry ends
the requests that are left. No write token is accepted any more then, so no other write can begin. Clients
send an upload again that was ended, once they get a token.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass

from sysreg_cli.errors import SysregError
from sysreg_cli.tokens.write_lock import WriteLockHold

#: Distribution 2.8's handlers that write, with words for messages. ``blob`` deletes a link at most.
WRITING_HANDLERS = {
    "manifest": "manifests",
    "blob_upload": "starts of uploads",
    "blob_upload_chunk": "uploads",
}
_POLL = 0.05


@dataclass(frozen=True, slots=True)
class DrainTimeouts:
    """Durations in seconds."""

    #: the whole drain
    limit: float
    #: one hold of the lock while writes are under way; docker's retries have to outlast it and the sweep
    hold: float
    #: the time between two holds; docker asks for a token again 20 s after a 503 at the latest
    release: float = 20.0
    #: the wait for a pause between pushes before the first hold, doubled for each further one
    settle: float = 60.0
    #: how long no write may be in flight to count as a pause; a push has short gaps between its requests
    pause: float = 0.5
    #: how long a registry that was told to restart may still show the requests that it should end
    restart: float = 30.0


class Drain:
    """Waits with the write lock held until no write is under way.

    ``take_lock`` holds the write lock. ``token_life`` returns the seconds for which the last write token is
    still accepted. ``busy`` returns the handlers in WRITING_HANDLERS that have a request in flight.
    ``uploads`` returns a text that names the uploads under way, "" if that is not known. ``end_requests``
    restarts the registry; it takes a text that says what is under way. ``sleep`` takes seconds, the elapsed
    part of the limit, and what the drain waits for; it ends the drain by raising.
    """

    def __init__(
        self,
        timeouts: DrainTimeouts,
        *,
        take_lock: Callable[[], AbstractContextManager[WriteLockHold]],
        token_life: Callable[[], float],
        busy: Callable[[], Set[str]],
        uploads: Callable[[], str],
        end_requests: Callable[[str], None],
        sleep: Callable[[float, float, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timeouts = timeouts
        self._take_lock = take_lock
        self._token_life = token_life
        self._busy = busy
        self._uploads = uploads
        self._end_requests = end_requests
        self._sleep = sleep
        self._clock = clock
        self._begun = clock()

    @contextlib.contextmanager
    def writes_ended(self) -> Iterator[WriteLockHold]:
        """Hold the write lock while no write is under way, until the context ends.

        Raises SysregError at the limit, and what the callables raise. Then the write lock is released.
        """
        settle = self._timeouts.settle
        for attempt in itertools.count(1):
            self._settle(settle)
            with self._take_lock() as hold:
                busy = self._wait_for_writes()
                under_way = self._describe(busy)
                if busy and self._is_last_try:
                    busy = self._end_writes(busy, under_way)
                if not busy:
                    yield hold
                    return
            self._let_pushes_go_on(under_way, attempt)
            settle *= 2

    def _settle(self, seconds: float) -> None:
        """Wait for a pause between pushes, without the lock. It only makes success more likely."""
        if self._token_life() <= 0 and not self._busy():
            return
        until = min(self._clock() + seconds, self._end - self._last_hold)
        idle_since: float | None = None
        while (now := self._clock()) < until:
            if self._busy():
                idle_since = None
            elif idle_since is None:
                idle_since = now
            elif now - idle_since >= self._timeouts.pause:
                return
            self._wait(_POLL, f"a pause between pushes, for at most {until - now:.0f} s")

    def _wait_for_writes(self) -> Set[str]:
        """Wait with the lock held. Returns the handlers that are still busy when the hold has to end.

        No write token is accepted any more then, so only requests that began before are under way.
        """
        now = self._clock()
        until = now + self._timeouts.hold
        # Nobody issues a write token while the lock is held, so this doesn't change.
        expiry = now + self._token_life()
        while (left := expiry - self._clock()) > 0:
            self._wait(min(left, 0.1), f"the last write token to expire, in {left:.0f} s")
        return self._wait_until_idle(WRITING_HANDLERS.keys(), until)

    def _wait_until_idle(self, busy: Set[str], until: float) -> Set[str]:
        """Wait until each of the handlers was seen idle. Returns those that were not at ``until``."""
        while busy := busy & self._busy():
            if self._clock() >= until:
                break
            self._wait(_POLL, f"the end of {_words(busy)}")
        return busy

    def _end_writes(self, busy: Set[str], under_way: str) -> Set[str]:
        """End the requests under way by a restart of the registry.

        Raises SysregError if the registry still shows them afterwards, and what the restart raises.
        """
        self._end_requests(under_way)
        until = min(self._clock() + self._timeouts.restart, self._end - _POLL)
        if busy := self._wait_until_idle(busy, until):
            raise self._too_long(f"a restart of the registry did not end {self._describe(busy)}")
        return busy

    def _let_pushes_go_on(self, under_way: str, attempt: int) -> None:
        until = self._clock() + self._timeouts.release
        while (left := until - self._clock()) > 0:
            reason = f"held pushes to go on, {left:.0f} s; then try {attempt + 1} ({under_way})"
            self._wait(min(left, 0.5), reason)

    @property
    def _is_last_try(self) -> bool:
        """Whether the limit leaves no time for another hold."""
        return self._clock() + self._timeouts.release + self._last_hold > self._end

    @property
    def _last_hold(self) -> float:
        """How long a hold may take that ends with a restart."""
        return self._timeouts.hold + self._timeouts.restart

    @property
    def _end(self) -> float:
        return self._begun + self._timeouts.limit

    def _wait(self, seconds: float, reason: str) -> None:
        elapsed = self._clock() - self._begun
        if elapsed >= self._timeouts.limit:
            raise self._too_long(f"still waiting for {reason}")
        self._sleep(seconds, elapsed / self._timeouts.limit, f"waits for {reason}")

    def _describe(self, handlers: Set[str]) -> str:
        uploads = self._uploads() if handlers else ""
        return _words(handlers) + (f": {uploads}" if uploads else "")

    def _too_long(self, reason: str) -> SysregError:
        return SysregError(
            f"pushes did not end within {self._timeouts.limit:g} s: {reason}; nothing was removed",
            next_step="try again when less is pushed, or raise drain_timeout in section [agent] of"
            " sysreg.conf",
        )


def _words(handlers: Set[str]) -> str:
    return f"{' and '.join(WRITING_HANDLERS[handler] for handler in sorted(handlers))} under way"
