"""Waiting for the write lock without a thread: one task polls it for all requests that wait."""

from __future__ import annotations

import asyncio
import contextlib

from sysreg_cli.errors import Unavailable
from sysreg_cli.tokens.write_lock import WriteLock

# To look costs microseconds.
_POLL = 0.1


class Gate:
    """Requests for write tokens wait here while a collection holds the write lock."""

    def __init__(self, write_lock: WriteLock) -> None:
        self._write_lock = write_lock
        self._poller: asyncio.Task[None] | None = None
        self._closing = False
        self.waiting = 0

    async def wait_until_open(self, deadline: float) -> bool:
        """Wait until the lock may be free. Return False if ``deadline`` (of the loop's clock) comes first.

        True is a hint: the caller tries again, and may find the lock held.
        """
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0 or self._closing:
            return False
        self.waiting += 1
        try:
            if self._poller is None or self._poller.done():
                self._poller = asyncio.create_task(self._poll())
            done, _ = await asyncio.wait({self._poller}, timeout=left)
        finally:
            self.waiting -= 1
        for poller in done:
            poller.result()
        return bool(done) and not self._closing

    def close(self) -> None:
        """End all waits, and let no request wait any more: the server stops."""
        self._closing = True

    async def _poll(self) -> None:
        """Return when the write lock is free, the server stops, or no request waits."""
        # if the lock file can't be used, the requests find out when they try again
        with contextlib.suppress(Unavailable):
            while self.waiting and not self._closing and self._write_lock.is_held():
                await asyncio.sleep(_POLL)
