"""Kills a change at a failpoint, in a process of its own."""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sysreg_cli.host import failpoint

_CHANGE_SECONDS = 120
_END_SECONDS = 10
_PAUSE = 0.001


def _threads() -> set[int]:
    """The threads of this process that the kernel knows."""
    return {int(path.name) for path in Path("/proc/self/task").iterdir()}


_LASTING = _threads()


def _ended_threads() -> set[int]:
    """Threads whose work is done, but which the kernel still knows, and idle ones of anyio that end next."""
    working = {
        thread.native_id for thread in threading.enumerate() if not thread.name.startswith("AnyIO worker")
    }
    return _threads() - _LASTING - working


def killed(place: int, change: Callable[[], object]) -> bool:
    """Whether ``change`` was killed at failpoint ``place``; False if it ended before."""
    # A thread that ends holds a lock of OpenSSL for a moment. A child that is forked then never gets it.
    deadline = time.monotonic() + _END_SECONDS
    while (ended := _ended_threads()) and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    # what is still there does not end: another test has left it
    _LASTING.update(ended)
    child = os.fork()
    if child == 0:
        faulthandler.dump_traceback_later(_CHANGE_SECONDS, exit=True)
        os.environ[failpoint.VARIABLE] = f"{place}:kill"
        failpoint.reset()
        try:
            change()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return os.WIFSIGNALED(status)


def failpoints(directory: Path, change: Callable[[], object]) -> list[str]:
    """The failpoints of ``change``, in order."""
    trace = directory / "trace"
    os.environ[failpoint.VARIABLE] = f"trace:{trace}"
    try:
        change()
    finally:
        del os.environ[failpoint.VARIABLE]
    return trace.read_text().splitlines()
