"""The write lock: while a garbage collection holds it, nobody issues a token that may change the registry.

It is a kernel lock (``flock``) on ``<state>/write-fence``, so it falls whenever its last holder dies, and
never before. Issuers take it shared for the moment of an issue; a collection takes it exclusively, and its
collector process inherits the descriptor. The lock file has to stay the same file: it is created by whoever
comes first, never replaced, and doesn't stand in a directory that systemd empties. Whoever can open it can
stop all writes, so deployment gives it to root:sysreg, mode 0660.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType

from sysreg_cli.errors import Conflict, Unavailable

LOCK_NAME = "write-fence"
RECORD_NAME = "latest-write-token"

# Two records may differ by a step of the clock; one that lies further ahead is no record.
_MOST_AHEAD = 120.0
_RECORD_SIZE = 20
_POLL = 0.01


class WriteLock:
    """The write lock of one controller. One object belongs to one thread (the descriptor carries the lock).

    Every method raises Unavailable if the lock file can't be used: then no write token may be issued.
    """

    def __init__(self, state: Path) -> None:
        self._lock = state / LOCK_NAME
        self._record = state / RECORD_NAME
        self._issue_fd = -1
        self._record_fd = -1

    def try_issue(self) -> AbstractContextManager[WriteLock] | None:
        """The right to issue write tokens until the context ends, or None while a collection holds the lock.

        Inside it, ``record()`` has to be called before the token leaves. Never waits.
        """
        try:
            self._open_for_issue()
            fcntl.flock(self._issue_fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        except OSError as error:
            raise self._unusable(error) from None
        return self._issuing()

    @contextmanager
    def _issuing(self) -> Iterator[WriteLock]:
        try:
            yield self
        finally:
            fcntl.flock(self._issue_fd, fcntl.LOCK_UN)

    def record(self) -> None:
        """Write down that a write token is issued now; a drain counts from here.

        Not synced to the disk: ``latest_write`` counts from the start of the machine if that was later.
        """
        try:
            if self._record_fd < 0 or os.fstat(self._record_fd).st_nlink == 0:
                self._close_record()
                self._record_fd = _open(self._record)
            # One write of a fixed size, so that a reader never sees half a number.
            os.pwrite(self._record_fd, f"{time.time():{_RECORD_SIZE - 1}.6f}\n".encode(), 0)
        except OSError as error:
            raise self._unusable(error) from None

    def latest_write(self) -> float:
        """When the latest write token was issued, in seconds of the wall clock, as ``exp`` counts.

        A missing or odd record means now. Never earlier than the start of the machine.
        """
        now = time.time()
        started = now - time.clock_gettime(time.CLOCK_BOOTTIME)
        try:
            recorded = float(self._record.read_text("ascii"))
        except (OSError, ValueError):
            return now
        if not math.isfinite(recorded) or recorded < 0 or recorded > now + _MOST_AHEAD:
            return now
        return max(recorded, started)

    def is_held(self) -> bool:
        """Whether a collection holds the write lock at this moment."""
        issue = self.try_issue()
        if issue is None:
            return True
        with issue:
            return False

    def hold(self, *, wait: float = 5.0) -> WriteLockHold:
        """Hold the lock exclusively: no write token is issued until the hold and all its heirs are gone.

        Issues under way end within microseconds; ``wait`` is the longest wait for them, in seconds. Raises
        Conflict if somebody else still holds it then, such as the collector of an agent that died.
        """
        deadline = time.monotonic() + wait
        try:
            descriptor = _open(self._lock)
        except OSError as error:
            raise self._unusable(error) from None
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return WriteLockHold(descriptor)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(descriptor)
                    raise Conflict(
                        "the write lock is held: another collection or a certificate install is under way",
                        next_step="wait until it is done (system registry-garbage-collect --status)",
                    ) from None
                time.sleep(_POLL)
            except OSError as error:
                os.close(descriptor)
                raise self._unusable(error) from None

    def close(self) -> None:
        """Close the descriptors; a later call opens them again."""
        self._close_record()
        if self._issue_fd >= 0:
            os.close(self._issue_fd)
            self._issue_fd = -1

    def _open_for_issue(self) -> None:
        # Somebody may have removed the file all the same; a lock on the removed one would guard nothing.
        if self._issue_fd >= 0 and os.fstat(self._issue_fd).st_nlink == 0:
            os.close(self._issue_fd)
            self._issue_fd = -1
        if self._issue_fd < 0:
            self._issue_fd = _open(self._lock)

    def _close_record(self) -> None:
        if self._record_fd >= 0:
            os.close(self._record_fd)
            self._record_fd = -1

    def _unusable(self, error: OSError) -> Unavailable:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return Unavailable(
            f"the write lock {self._lock} can't be used: {error.strerror}",
            next_step="make room there" if full else "run sysreg-deploy as root to mend its owner and mode",
        )


class WriteLockHold:
    """An exclusive hold. It ends with ``close()``, unless another process inherited the descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        """The descriptor that carries the lock, for ``subprocess``'s ``pass_fds``."""
        return self._descriptor

    def close(self) -> None:
        """Give up this process's part of the hold; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> WriteLockHold:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o660)
