"""Temporary directories that no killed test run leaves behind for good."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

_MEMORY, _DISK = Path("/dev/shm"), Path("/var/tmp")
_MIN_FREE = 4 << 30  # the usual 64 MiB of a container are too few for one controller
_OWNED = "owned"  # locked by the process that uses the directory


def place() -> Path:
    """Where temporary directories are: in memory if there is room.

    To remove the storage of 2,500 repositories takes a second there, and a minute on a disk with discard.
    """
    in_memory = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _MIN_FREE
    return _MEMORY if in_memory else _DISK


@contextlib.contextmanager
def directory(prefix: str, remove: Callable[[Path], None] = shutil.rmtree) -> Iterator[Path]:
    """A new directory whose name begins with ``prefix``; it is gone in the end.

    ``remove`` is called first, for each such directory whose test run was killed.
    """
    _remove_abandoned(prefix, remove)
    root = Path(tempfile.mkdtemp(prefix=prefix, dir=place()))
    root.chmod(0o755)
    with (root / "new").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (root / "new").rename(root / _OWNED)  # so it never exists without its lock
        try:
            yield root
        finally:
            shutil.rmtree(root, ignore_errors=True)


def _remove_abandoned(prefix: str, remove: Callable[[Path], None]) -> None:
    for root in (*_MEMORY.glob(f"{prefix}*"), *_DISK.glob(f"{prefix}*")):
        with contextlib.suppress(OSError), (root / _OWNED).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(root)
