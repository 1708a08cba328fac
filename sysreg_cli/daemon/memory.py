"""Gives memory back to the kernel after a load is over.

glibc keeps what was freed in the middle of its heap, and Python what is garbage in a cycle. After some
hundred TLS connections that is 10 MiB and more.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc

_SECONDS = 20.0
# New objects, and runs over the youngest, until Python looks for garbage in cycles. Requests leave hardly
# any, and Python's own 700 and 10 cost a twentieth of the time of a token request.
_OBJECTS, _RUNS = 20_000, 20


async def give_back() -> None:
    """Give back what is free, now and then, until the task is cancelled."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except AttributeError:
        # another C library than glibc
        return
    # What was loaded for the start stays: without it, to look for garbage takes milliseconds.
    gc.freeze()
    gc.set_threshold(_OBJECTS, _RUNS)
    while True:
        await asyncio.sleep(_SECONDS)
        gc.collect()
        trim(0)
