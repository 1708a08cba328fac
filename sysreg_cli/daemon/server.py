"""What both daemons add to uvicorn: signals that are their own, and systemd's watchdog."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn

from sysreg_cli.daemon.systemd import notify, watchdog_interval


class Server(uvicorn.Server):
    """uvicorn without signal handlers: the daemon sets ``should_exit``, and ends with status 0."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        #: set once it accepts connections
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


@contextlib.asynccontextmanager
async def watchdog() -> AsyncIterator[None]:
    """Give systemd signs of life from the event loop, as often as it wants: one that hangs is restarted."""
    interval = watchdog_interval()

    async def beat() -> None:
        while True:
            notify("WATCHDOG=1")
            await asyncio.sleep(interval)

    task = asyncio.create_task(beat()) if interval else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
