"""How many calls one address may make over the network; the unix socket is not limited.

A token bucket for each address: a burst, and then so many a second. What is over it is answered 429 with
Retry-After, before anybody is identified: a flood of wrong tokens must not reach Keystone.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from sysreg_cli.agent.context import fault

#: calls a second, and how many may come at once
PER_SECOND = 20.0
BURST = 60.0
_MOST_ADDRESSES = 4096


class Buckets:
    """The calls that each key has left."""

    def __init__(
        self,
        per_second: float = PER_SECOND,
        burst: float = BURST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> float:
        """Take one call from ``key``: 0 if there was one, else the seconds until there is."""
        now = self._clock()
        left, since = self._left.pop(key, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._per_second)
        wait = max(0.0, (1.0 - left) / self._per_second)
        self._left[key] = (left if wait else left - 1.0, now)
        while len(self._left) > _MOST_ADDRESSES:
            self._left.popitem(last=False)
        return wait


class RateLimit:
    """Answers 429 to addresses that call too often."""

    def __init__(self, application: ASGIApp, buckets: Buckets | None = None) -> None:
        self._application = application
        self._buckets = buckets or Buckets()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # uvicorn names no client on a unix socket.
        client = scope.get("client") if scope["type"] == "http" else None
        if client and (wait := self._buckets.take(client[0])):
            seconds = str(math.ceil(wait))
            answer = fault(429, f"too many calls; try again in {seconds} s", {"Retry-After": seconds})
            await answer(scope, receive, send)
            return
        await self._application(scope, receive, send)
