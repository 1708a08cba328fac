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
        self._opened: asyncio.Future[None] | None = None
        self._poller: asyncio.Task[None] | None = None
        self._closing = False
        self.waiting = 0

    async def wait_until_open(self, deadline: float) -> bool:
        """Wait until the lock may be free. Return False if ``deadline`` (of the loop's clock) comes first.

        True is a hint: the caller tries again, and may find the lock held.
        """
        loop = asyncio.get_running_loop()
        left = deadline - loop.time()
        if left <= 0 or self._closing:
            return False
        if self._opened is None:
            self._opened = loop.create_future()
            self._poller = asyncio.create_task(self._poll(self._opened))
        self.waiting += 1
        try:
            await asyncio.wait_for(asyncio.shield(self._opened), left)
        except TimeoutError:
            return False
        finally:
            self.waiting -= 1
        return not self._closing

    def close(self) -> None:
        """End all waits, and let no request wait any more: the server stops."""
        self._closing = True
        if self._opened is not None and not self._opened.done():
            self._opened.set_result(None)

    async def _poll(self, opened: asyncio.Future[None]) -> None:
        """Look until the write lock is free or no request waits."""
        try:
            # if the lock file can't be used, the requests find out when they try again
            with contextlib.suppress(Unavailable):
                while not opened.done() and self._write_lock.is_held():
                    await asyncio.sleep(_POLL)
                    if self.waiting == 0:
                        break
        finally:
            self._opened = None
            if not opened.done():
                opened.set_result(None)
