"""Files that are wholly there or not at all, also after a crash or a power cut.

Every write goes to a temporary file in the same directory, is flushed to the disk, gets its mode and owner,
and then takes its name by one rename; the directory is flushed last. See fsync(2) and rename(2).
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from sysreg_cli.host import failpoint

#: what an interrupted write may leave behind begins like this; ``remove_leftovers`` clears it
TEMPORARY_PREFIX = ".sysreg-"


def write(path: Path, data: bytes, *, mode: int, group: int | None = None) -> None:
    """Replace ``path`` with ``data`` atomically and durably; the owner is the writing process's.

    Raises OSError; then the old file is what it was.
    """
    with _replacing(path) as temporary:
        # never wider than the final mode: the data may be a private key
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            failpoint.reach(f"write {path.name}")
            file.write(data)
            file.flush()
            if group is not None:
                os.fchown(descriptor, -1, group)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)


def link(path: Path, target: str) -> None:
    """Make ``path`` a symbolic link to ``target`` by one rename, whatever stood there. Raises OSError."""
    with _replacing(path) as temporary:
        failpoint.reach(f"write {path.name}")
        temporary.symlink_to(target)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yields the name of what is to be made: it then takes the name ``path``, or goes. Raises OSError."""
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}.{secrets.token_hex(4)}")
    try:
        yield temporary
        failpoint.reach(f"rename {path.name}")
        os.rename(temporary, path)  # noqa: PTH104
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            error.filename = str(path)  # a failed write(2) doesn't know, and the temporary name tells nobody
        raise
    flush_directory(path.parent)


def rename(source: Path, target: Path) -> None:
    """Rename durably within one directory. Raises OSError."""
    failpoint.reach(f"rename {target.name}")
    os.rename(source, target)  # noqa: PTH104
    flush_directory(target.parent)


def remove(path: Path) -> None:
    """Remove a file or link durably; one that isn't there is fine. Raises OSError."""
    failpoint.reach(f"remove {path.name}")
    try:
        path.unlink()
    except FileNotFoundError:
        return
    flush_directory(path.parent)


def remove_leftovers(directory: Path) -> None:
    """Remove what interrupted writes left in ``directory``. Raises OSError."""
    if directory.is_dir():
        for leftover in directory.glob(f"{TEMPORARY_PREFIX}*"):
            leftover.unlink(missing_ok=True)


def is_full(error: OSError) -> bool:
    """Whether there was no room for what was to be written."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def flush_directory(directory: Path) -> None:
    """Flush a directory's entries to the disk. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
