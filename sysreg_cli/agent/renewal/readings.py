"""What a source of certificates holds at a moment, and waiting until it has come to rest.

A source is read at any moment, also in the middle of a change: the new certificate may be there beside the
old key, or the first half of a file. So a reading counts only when nothing has changed for a while.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Reading:
    """What a source holds: key and chain as PEM, or the ``problem`` that kept it from being read.

    The first of ``candidates`` that passes the checks counts. They differ in whether they hold the CA's
    certificate that the source has in a place of its own.
    """

    candidates: tuple[bytes, ...] = field(default=(), repr=False)
    problem: str = ""

    @classmethod
    def of(cls, key: bytes, chain: bytes, authority: bytes = b"") -> Reading:
        """Return the reading of a private key, its chain, and the certificate of the CA if it is known."""
        pem = key + b"\n" + chain + b"\n"
        return cls((pem + authority, pem) if authority.strip() else (pem,))


class Source(Protocol):
    """Where renewed certificates come from. ``str`` of it is the value of the setting."""

    def follow(self, report: Callable[[Reading], None], stopping: threading.Event) -> None:
        """Report what the source holds: now, after each change, once an hour. Blocks until ``stopping``."""


class Readings:
    """Passes readings from the thread that follows a source to the thread that renews: the latest alone."""

    def __init__(self, *, restless_seconds: float = 60.0) -> None:
        self._changed = threading.Condition()
        self._latest: Reading | None = None
        self._reported = 0.0
        self._restless_since = 0.0
        self._restless_seconds = restless_seconds
        self._closed = False

    def report(self, reading: Reading) -> None:
        """Replace the latest reading."""
        with self._changed:
            self._reported = time.monotonic()
            if self._latest is None:
                self._restless_since = self._reported
            self._latest = reading
            self._changed.notify()

    def close(self) -> None:
        """End the waiting of ``take``, now and from now on."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def take(self, *, rest: float, timeout: float) -> Reading | None:
        """Wait for a reading that is ``rest`` seconds old with none after it; None after ``timeout`` seconds.

        A source that changes again and again gives a reading whose problem says so.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                if self._latest is not None:
                    if now >= self._reported + rest:
                        reading, self._latest = self._latest, None
                        return reading
                    if now >= self._restless_since + self._restless_seconds + rest:
                        self._restless_since = now
                        return Reading(problem=f"it has kept changing for {self._restless_seconds:.0f} s")
                    self._changed.wait(self._reported + rest - now)
                elif now >= deadline:
                    return None
                else:
                    self._changed.wait(deadline - now)
        return None
