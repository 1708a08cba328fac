"""Reads which blobs the registry's ``filesystem`` driver has stored, without their content."""

from __future__ import annotations

import os
import stat
import sys
from typing import NamedTuple

from sysreg_cli.agent.storage.files import ABSENT, entries_of, is_directory, is_within, require_access
from sysreg_cli.agent.storage.readers import Check, Readers
from sysreg_cli.agent.storage.repository import Blob
from sysreg_cli.reference import is_digest


class Prefix(NamedTuple):
    """A directory of blobs whose digests begin alike."""

    algorithm: str
    path: str


class ReadBlobs(NamedTuple):
    """Blobs by their digests, each with its size and time. See ``BlobReader`` for the others."""

    blobs: dict[str, tuple[int, float]]
    strays: set[str]
    foreign: list[str]


class BlobReader:
    """Reads the blobs in the directory ``top``, also in another process.

    ``owner`` is the user as whom the registry reads. ``strays`` are paths of what is in the place of a
    directory, ``foreign`` are paths that the registry does not write.
    """

    def __init__(self, top: str, owner: int) -> None:
        self.strays: set[str] = set()
        self.foreign: list[str] = []
        self._top = top
        self._owner = owner

    def read(self, readers: Readers) -> dict[str, Blob]:
        """Return the blobs by their digests. Raises OSError, also for a file that may not be read."""
        blobs: dict[str, Blob] = {}
        for found in readers.map(BlobReader(self._top, self._owner).read_prefix, self._prefixes()):
            blobs.update(
                zip(map(sys.intern, found.blobs), map(Blob._make, found.blobs.values()), strict=True)
            )
            self.strays.update(found.strays)
            self.foreign.extend(found.foreign)
        return blobs

    def read_prefix(self, prefix: Prefix, check: Check) -> ReadBlobs:
        """Read the blobs of one prefix."""
        blobs: dict[str, tuple[int, float]] = {}
        # Names relative to an open directory take a fifth less time than whole paths.
        try:
            directory = os.open(prefix.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in ABSENT:
                raise
            strays = set() if os.path.isdir(prefix.path) else {prefix.path}  # noqa: PTH112
            return ReadBlobs(blobs, strays, [])
        found = ReadBlobs(blobs, set(), [])
        begin = prefix.path.rpartition("/")[2]
        try:
            for entry in entries_of(directory):
                check()
                name = entry.name
                path = f"{prefix.path}/{name}"
                if entry.is_symlink() and is_within(path, self._top):
                    found.strays.add(path)
                elif (blob := self._blob(directory, path, name, found.strays)) is not None:
                    digest = f"{prefix.algorithm}:{name}"
                    if name[:2] == begin and is_digest(digest):
                        blobs[digest] = blob
                    else:
                        found.foreign.append(path)
        finally:
            os.close(directory)
        return found

    def _prefixes(self) -> list[Prefix]:
        """Return where blobs are. A symbolic link to other blobs is a stray."""
        prefixes = []
        for algorithm in entries_of(self._top):
            if not is_directory(algorithm):
                self.strays.add(algorithm.path)
            for prefix in entries_of(algorithm.path):
                if prefix.is_symlink() and is_within(prefix.path, self._top):
                    self.strays.add(prefix.path)
                else:
                    prefixes.append(Prefix(algorithm.name, prefix.path))
        return prefixes

    def _blob(self, directory: int, path: str, name: str, strays: set[str]) -> tuple[int, float] | None:
        try:
            status = os.stat(f"{name}/data", dir_fd=directory, follow_symlinks=False)
        except OSError as error:
            if error.errno in ABSENT:
                if not os.path.isdir(path):  # noqa: PTH112
                    strays.add(path)
                return None
            error.filename = path
            raise
        is_file = stat.S_ISREG(status.st_mode)
        if is_file and (status.st_uid != self._owner or not status.st_mode & stat.S_IRUSR):
            require_access(f"{path}/data", os.R_OK)
        return status.st_size if is_file else -1, status.st_mtime
