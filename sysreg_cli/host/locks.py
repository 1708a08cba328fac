"""One lock for all that restarts services: certificate installs and collections exclude each other.

A kernel file lock (flock), so it holds across processes and falls with the process that held it. The file is
never removed; what stands in it only names the holder for a message.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from sysreg_cli.errors import Conflict

_POLL_SECONDS = 0.05


@contextlib.contextmanager
def services_lock(state: Path, purpose: str, *, wait: float) -> Iterator[None]:
    """Hold the lock while ``purpose`` (a few words for messages) changes services; waits ``wait`` seconds.

    Blocks the calling thread. Raises Conflict, naming what holds it, when it doesn't come free in time, and
    OSError when the state directory can't be written.
    """
    with _lock(state / "services.lock", purpose, wait):
        yield


@contextlib.contextmanager
def deploy_lock(state: Path, purpose: str, *, wait: float) -> Iterator[None]:
    """Hold the lock of sysreg-deploy, of which one runs at a time; otherwise as ``services_lock``."""
    with _lock(state / "deploy.lock", purpose, wait):
        yield


@contextlib.contextmanager
def _lock(path: Path, purpose: str, wait: float) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)  # whoever can open it can keep everybody else from it
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace") or "another change"
                    raise Conflict(
                        f"{purpose}: {holder} is under way", next_step="try again when it is done"
                    ) from None
                time.sleep(_POLL_SECONDS)
        os.ftruncate(descriptor, 0)
        with contextlib.suppress(OSError):  # a full disk costs the name in a message, not the work
            os.pwrite(descriptor, purpose.encode(), 0)
        yield
    finally:
        os.close(descriptor)
