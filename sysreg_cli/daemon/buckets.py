"""Token buckets: how much each client may still do (a burst, and then so many a second).

The library ``limits`` counts in windows, and has no token bucket.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from cachetools import LRUCache

_MAX_KEYS = 4096


class Buckets:
    """What each key has left: ``burst`` at most, and ``per_second`` more each second."""

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        # what was left, and when
        self._left: LRUCache[str, tuple[float, float]] = LRUCache(_MAX_KEYS)

    def take(self, key: str) -> float:
        """Take one from ``key``. Return 0, or the seconds until it has one."""
        left, wait = self._look(key)
        self._left[key] = (left if wait else left - 1.0, self._clock())
        return wait

    def wait(self, key: str) -> float:
        """Return 0 if ``key`` has one, or the seconds until it has one. Take none."""
        return self._look(key)[1]

    def clear(self) -> None:
        """Give every key its whole burst again."""
        self._left.clear()

    def __len__(self) -> int:
        return len(self._left)

    def _look(self, key: str) -> tuple[float, float]:
        now = self._clock()
        left, since = self._left.get(key, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._per_second)
        return left, max(0.0, (1.0 - left) / self._per_second)
