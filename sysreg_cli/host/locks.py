"""Locks between processes: one change of services at a time, and one sysreg-deploy at a time.

A lock is a ``flock`` on a file that is never removed. The kernel releases it when its holder dies. The file
holds the name of its last holder for messages; the package filelock has no place for it.
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
_SERVICES, _DEPLOY = "services.lock", "deploy.lock"
_MAX_NAME = 200  # bytes of the name of a holder
_NAMELESS = "another change"


@contextlib.contextmanager
def services_lock(state: Path, purpose: str, *, wait: float) -> Iterator[None]:
    """Hold the lock for what restarts services: certificate installs, collections, sysreg-deploy.

    Blocks for ``wait`` seconds at most. ``purpose`` names the holder in the messages of others. Raises
    Conflict, which names the holder, and OSError.
    """
    with _lock(state / _SERVICES, purpose, wait):
        yield


@contextlib.contextmanager
def deploy_lock(state: Path, purpose: str, *, wait: float) -> Iterator[None]:
    """Hold the lock of sysreg-deploy. Blocks and raises as ``services_lock`` does."""
    with _lock(state / _DEPLOY, purpose, wait):
        yield


def holder(state: Path) -> str:
    """Return who holds one of the two locks at this moment, "" if nobody does. Raises OSError."""
    for name in (_SERVICES, _DEPLOY):
        with contextlib.suppress(FileNotFoundError), (state / name).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read(_MAX_NAME).decode("utf-8", "replace") or _NAMELESS
    return ""


@contextlib.contextmanager
def _lock(path: Path, purpose: str, wait: float) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)  # whoever can open it can hold the lock
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    name = os.pread(descriptor, _MAX_NAME, 0).decode("utf-8", "replace") or _NAMELESS
                    raise Conflict(
                        f"{purpose}: {name} is under way", next_step="try again when it is done"
                    ) from None
                time.sleep(_POLL_SECONDS)
        os.ftruncate(descriptor, 0)
        with contextlib.suppress(OSError):  # a full disk: only messages lack the name
            os.pwrite(descriptor, purpose.encode(), 0)
        yield
    finally:
        os.close(descriptor)
