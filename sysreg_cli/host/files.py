"""Files that are replaced atomically and durably: after a crash there is the old file or the new one.

A write goes to a temporary file in the same directory. The file gets its mode and owner, is flushed to the
disk, and takes its name by a rename. Then the directory is flushed. See rename(2) and fsync(2).
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from sysreg_cli.host import failpoint

#: Names of temporary files begin with this.
TEMPORARY_PREFIX = ".sysreg-"


def write(path: Path, data: bytes, *, mode: int, group: int | None = None) -> None:
    """Replace ``path`` with a file of the process's user. Raises OSError; then ``path`` is unchanged."""
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
    """Replace ``path`` with a symbolic link. Raises OSError; then ``path`` is unchanged."""
    with _replacing(path) as temporary:
        failpoint.reach(f"write {path.name}")
        temporary.symlink_to(target)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path for the new file, then rename that file to ``path``. Raises OSError."""
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}.{secrets.token_hex(4)}")
    try:
        yield temporary
        failpoint.reach(f"rename {path.name}")
        os.rename(temporary, path)  # noqa: PTH104
    except OSError as error:
        # write(2) names no file, and others name the temporary one
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    flush_directory(path.parent)


def rename(source: Path, target: Path) -> None:
    """Rename durably within one directory. Raises OSError."""
    failpoint.reach(f"rename {target.name}")
    os.rename(source, target)  # noqa: PTH104
    flush_directory(target.parent)


def remove(path: Path) -> None:
    """Remove a file or link durably, if it exists. Raises OSError."""
    failpoint.reach(f"remove {path.name}")
    try:
        path.unlink()
    except FileNotFoundError:
        return
    flush_directory(path.parent)


def remove_leftovers(*directories: Path) -> None:
    """Remove the temporary files of interrupted writes in ``directories``. Raises OSError."""
    for directory in filter(Path.is_dir, directories):
        for leftover in directory.glob(f"{TEMPORARY_PREFIX}*"):
            leftover.unlink(missing_ok=True)


def is_full(error: OSError) -> bool:
    """Whether the disk or the quota is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def flush_directory(directory: Path) -> None:
    """Flush a directory's entries to the disk. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
