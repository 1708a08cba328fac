"""A rate limit for each address in the network. The unix socket has none.

An address has a token bucket: a burst of calls, and then so many a second. The response to a call beyond that
is 429 with Retry-After. It comes before the caller is identified, so a flood of wrong tokens does not reach
Keystone. The library ``limits`` counts in windows, and has no token bucket.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from cachetools import LRUCache
from starlette.types import ASGIApp, Receive, Scope, Send

from sysreg_cli.agent.responses import fault

_MAX_ADDRESSES = 4096


class Buckets:
    """The calls that each key has left: ``burst`` at most, and ``per_second`` more each second."""

    def __init__(
        self, per_second: float = 20.0, burst: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        # what was left, and when
        self._left: LRUCache[str, tuple[float, float]] = LRUCache(_MAX_ADDRESSES)

    def take(self, key: str) -> float:
        """Take one call from ``key``. Return 0, or the seconds until it has one."""
        now = self._clock()
        left, since = self._left.get(key, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._per_second)
        wait = max(0.0, (1.0 - left) / self._per_second)
        self._left[key] = (left if wait else left - 1.0, now)
        return wait

    def __len__(self) -> int:
        return len(self._left)


class RateLimit:
    """Answers 429 to addresses that call too often."""

    def __init__(self, application: ASGIApp, buckets: Buckets | None = None) -> None:
        self._application = application
        self._buckets = buckets or Buckets()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # uvicorn names no client on a unix socket
        client = scope.get("client") if scope["type"] == "http" else None
        if client and (wait := self._buckets.take(client[0])):
            seconds = str(math.ceil(wait))
            response = fault(429, f"too many calls; try again in {seconds} s", {"Retry-After": seconds})
            await response(scope, receive, send)
            return
        await self._application(scope, receive, send)
