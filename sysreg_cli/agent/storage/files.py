"""Reads and removes files and directories of the storage. Others may have nested any depth there.

An entry that vanishes while it is read counts as absent.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

# O_NONBLOCK: without it, opening a FIFO waits for a writer.
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
_MISSING = (FileNotFoundError, NotADirectoryError)
# With a symbolic link that leads to itself on the path, the registry finds nothing, either.
ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
#: a symbolic link, a socket, a directory, a FIFO whose writer has written nothing, an unreadable sector.
UNREADABLE = {errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.EAGAIN, errno.EIO}
_BLOCK = 8192


def read_file(path: str, size: int = 0, *, directory: int | None = None) -> bytes | None:
    """Return the content of a file that may have ``size`` bytes. Return nothing if it can't be read.

    Of a file of 8 KiB or more that is no JSON, as most layers are, return only the beginning. Return None if
    there is no file. The path may be relative to an open ``directory``.
    """
    # os.read takes half the time of a file object, and this runs for each link and manifest of the registry.
    try:
        descriptor = os.open(path, _READ, dir_fd=directory)
    except _MISSING:
        return None
    except OSError as error:
        if error.errno in UNREADABLE:
            return b""
        raise
    try:
        # A buffer of the right size takes two thirds of the time of a larger one.
        data = os.read(descriptor, min(size or _BLOCK, _BLOCK))
        if len(data) == _BLOCK and data.lstrip()[:1] == b"{":
            while len(data) < size and (more := os.read(descriptor, size)):
                data += more
        return data  # noqa: TRY300
    except OSError as error:
        if error.errno in UNREADABLE:
            return b""
        raise
    finally:
        os.close(descriptor)


def entries_of(path: str | int) -> list[os.DirEntry[str]]:
    """Return what is in a directory, given by its path or open, nothing if there is none."""
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError as error:
        if error.errno in ABSENT:
            return []
        raise


def is_directory(entry: os.DirEntry[str]) -> bool:
    """Whether it is a directory, or a symbolic link to one."""
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno in ABSENT:
            return False
        raise


def require_access(path: str, mode: int) -> None:
    """Raise PermissionError unless the user whose rights this thread has may use a file. See os.access."""
    if not os.access(path, mode, effective_ids=True):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def is_within(path: str, top: str) -> bool:
    """Whether a symbolic link leads to a place in ``top``, where other things are."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(top))


def written(path: str) -> float:
    """Return when a file was written, 0 if it is not there."""
    try:
        return os.lstat(path).st_mtime
    except OSError as error:
        if error.errno in ABSENT:
            return 0.0
        raise


def go_on() -> None:
    """Go on: the default of ``check``."""


def tree(top: Path) -> Iterator[str]:
    """Yield a directory, if it is there, and all below it, outer ones first. Follows no symbolic link."""
    pending = [str(top)]
    while pending:
        directory = pending.pop()
        try:
            entries = os.scandir(directory)
        except OSError as error:
            if error.errno in ABSENT:
                continue
            raise
        yield directory
        with entries:
            pending.extend(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))


def remove_tree(top: Path, check: Callable[[], None] = go_on) -> None:
    """Remove a directory or file, if it is there, with all that is in it. Follows no symbolic link.

    ``check`` is called before each step, and ends the work by raising. Raises OSError.
    """
    if top.is_symlink() or not top.is_dir():
        check()
        with contextlib.suppress(*_MISSING):
            top.unlink()
        return
    directories = []
    for directory in tree(top):
        check()
        directories.append(directory)
    for directory in reversed(directories):
        with os.scandir(directory) as entries:
            for entry in entries:
                check()
                os.unlink(entry.path)  # noqa: PTH108 - text takes a tenth of the time of a Path
        check()
        os.rmdir(directory)  # noqa: PTH106
