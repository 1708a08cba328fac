"""Lets a thread work only while nothing else wants the processor or the disk."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import threading

# ioprio_set(2), which Python and glibc lack: its number, and IOPRIO_CLASS_IDLE for one thread
_NUMBERS = {"x86_64": 251, "aarch64": 30}
_WHO_PROCESS = 1
_CLASS_IDLE = 3 << 13
_LEAST = 19


def make_this_thread_idle() -> None:
    """Give this thread the lowest priorities for its whole life. Does what the kernel allows."""
    thread = threading.get_native_id()
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, _LEAST)
    if number := _NUMBERS.get(platform.machine()):
        ctypes.CDLL(None).syscall(number, _WHO_PROCESS, thread, _CLASS_IDLE)
