"""Kills a change at a failpoint, in a process of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from sysreg_cli.host import failpoint


def killed(place: int, change: Callable[[], object]) -> bool:
    """Whether ``change`` was killed at failpoint ``place``; False if it ended before."""
    child = os.fork()
    if child == 0:
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
