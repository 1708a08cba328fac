"""The write lock: while a garbage collection holds it, nobody issues a write token.

It is a kernel lock (``flock``) on ``<state>/write-fence``. The kernel releases it when the last process that
holds it ends. The token server takes it shared for the moment of an issue. A certificate install takes it
shared for its whole length, so that no collection starts. A collection takes it exclusively, and the
registry's collector inherits its file descriptor. The first process that needs the file creates it; nothing
replaces it, because a lock on a replaced file would guard nothing. A process that can open the file can stop
all writes, and one that can write the record can make a drain too short. So sysreg-deploy gives both to
root:sysreg-token with mode 0660; the token server is the only member of that group.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from io import FileIO
from pathlib import Path

from sysreg_cli.errors import Conflict, Unavailable

LOCK_NAME = "write-fence"
RECORD_NAME = "latest-write-token"

# Seconds. A step of the clock may leave a record in the near future. One further ahead is damaged.
_MAX_AHEAD = 120.0
_RECORD_SIZE = 20
_POLL = 0.01


class WriteLockHold(FileIO):
    """An exclusive hold. It ends when this file is closed here and in each process that inherited it."""


class WriteLock:
    """The write lock of one controller.

    Use one object for each thread: the lock belongs to the open file, not to the thread. Every method raises
    Unavailable if the lock file can't be used; then no write token may be issued.
    """

    def __init__(self, state: Path) -> None:
        self._lock = _KeptFile(state / LOCK_NAME)
        self._record = _KeptFile(state / RECORD_NAME)

    def try_issue(self) -> AbstractContextManager[None] | None:
        """Take the lock shared, without waiting. Return None while a collection holds it.

        In the context that is returned, the caller may issue write tokens. It calls ``record()`` before a
        token leaves.
        """
        try:
            descriptor = self._lock.descriptor()
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        except OSError as error:
            raise self._unusable(error) from None
        return _unlocking(descriptor)

    def record(self) -> None:
        """Record that a write token is issued now: a drain counts from this time.

        The record is not flushed to the disk, because ``latest_write`` counts from the start of the machine
        if that was later. After a step of the clock backwards, an earlier token may expire later than this
        one: then its time stays.
        """
        try:
            descriptor, now = self._record.descriptor(), time.time()
            with contextlib.suppress(ValueError):
                recorded = float(os.pread(descriptor, _RECORD_SIZE, 0))
                now = recorded if now < recorded <= now + _MAX_AHEAD else now
            # one write of a fixed size, so that no reader sees half a number
            os.pwrite(descriptor, f"{now:{_RECORD_SIZE - 1}.6f}\n".encode(), 0)
        except OSError as error:
            raise self._unusable(error) from None

    def latest_write(self) -> float:
        """Return when the latest write token was issued, in seconds of the wall clock, which ``exp`` uses.

        A missing or damaged record means now. Never returns a time before the start of the machine.
        """
        now = time.time()
        started = now - time.clock_gettime(time.CLOCK_BOOTTIME)
        try:
            recorded = float(self._record.path.read_text("ascii"))
        except (OSError, ValueError):
            return now
        if not math.isfinite(recorded) or recorded < 0 or recorded > now + _MAX_AHEAD:
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
        """Take the lock exclusively: until the hold is closed everywhere, nobody issues a write token.

        Waits at most ``wait`` seconds for issues under way, which take microseconds. Raises Conflict if
        another process still holds the lock then, such as the collector of an agent that was killed.
        """
        deadline = time.monotonic() + wait
        try:
            hold = WriteLockHold(_open(self._lock.path))
            while not (taken := _lock_exclusively(hold)) and time.monotonic() < deadline:
                time.sleep(_POLL)
        except OSError as error:
            raise self._unusable(error) from None
        if not taken:
            hold.close()
            raise Conflict(
                "the write lock is held: another collection or a certificate install is under way",
                next_step="wait until it is done, then try again",
            )
        return hold

    def close(self) -> None:
        """Close the files. A later call opens them again."""
        self._lock.close()
        self._record.close()

    def _unusable(self, error: OSError) -> Unavailable:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return Unavailable(
            f"the write lock {self._lock.path} can't be used: {error.strerror}",
            next_step="make room there" if full else "run sysreg-deploy as root to repair its owner and mode",
        )


class _KeptFile:
    """A file that stays open between calls. If somebody removed it, the next call creates it again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def descriptor(self) -> int:
        if self._descriptor >= 0 and os.fstat(self._descriptor).st_nlink == 0:
            self.close()
        if self._descriptor < 0:
            self._descriptor = _open(self.path)
        return self._descriptor

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _lock_exclusively(hold: WriteLockHold) -> bool:
    try:
        fcntl.flock(hold, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _unlocking(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o660)
