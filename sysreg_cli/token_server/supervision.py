"""Telling systemd that the server is up, alive or stopping (sd_notify(3)); silent without NOTIFY_SOCKET."""

from __future__ import annotations

import asyncio
import os
import socket


def notify(state: str) -> None:
    """Send ``state`` (``READY=1``...) to the service manager, if one listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.sendto(state.encode(), address)


def watchdog_interval() -> float:
    """Seconds between signs of life, half of what systemd allows; 0 if it expects none of this process."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    allowed = os.environ.get("WATCHDOG_USEC", "")
    return int(allowed) / 2_000_000 if allowed.isdecimal() else 0.0


async def keep_watchdog(interval: float) -> None:
    """Give signs of life from the event loop, so that one that hangs is restarted."""
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval)
