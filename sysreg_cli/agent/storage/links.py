"""Reads the links in one repository: small files that hold a digest."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Collection
from types import TracebackType

from sysreg_cli.agent.storage.files import ABSENT, read_file, require_access
from sysreg_cli.reference import is_digest

# more than the longest digest has
_LINK = 160
# The registry empties a link before it writes it again. Seconds: an empty link as young as this is read again
# after a pause.
_YOUNG = 2.0
_PAUSE = 0.005
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class Links:
    """The links of the repository in the directory ``path``, to be used in a ``with`` statement.

    ``owner`` is the user as whom the registry reads. Links are given by paths relative to the repository. A
    repository that has vanished has none. Methods raise OSError, with the whole path.
    """

    def __init__(self, path: str, owner: int) -> None:
        self._path = path
        self._owner = owner
        self._directory: int | None = None
        #: what makes a path of a link
        self._prefix = f"{path}/"

    def __enter__(self) -> Links:
        # Paths relative to an open directory take a fifth less time than whole ones: a storage of 2,000
        # repositories has 80,000 links.
        try:
            self._directory = os.open(self._path, _DIRECTORY)
        except OSError as error:
            if error.errno not in ABSENT:
                raise
        else:
            self._prefix = ""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._directory is not None:
            os.close(self._directory)
        if isinstance(error, OSError) and isinstance(error.filename, str):
            error.filename = os.path.join(self._path, error.filename)  # noqa: PTH118 - keeps a whole path

    def content(self, link: str) -> bytes | None:
        """Return what is in a link, of a long file only the beginning. See ``read_file``."""
        return read_file(self._prefix + link, _LINK, directory=self._directory)

    def digest(self, link: str, known: Collection[str] = ()) -> str | None:
        """Return the digest in a link, "" if it is damaged, None if there is no link.

        What is ``known`` to be a digest is not parsed.
        """
        if (data := self.content(link)) is None:
            return None
        text = data.decode("ascii", "replace")
        if text in known or is_digest(text):
            return text
        if (status := self._status(link)) is None:
            return None
        if not text and stat.S_ISREG(status.st_mode) and status.st_mtime > time.time() - _YOUNG:
            time.sleep(_PAUSE)
            text = (self.content(link) or b"").decode("ascii", "replace")
        return text if is_digest(text) else ""

    def is_file(self, link: str) -> bool | None:
        """Whether a regular file is in the place of a link, None if nothing is.

        Raises PermissionError for a file that the registry may not write: a push would fail at it.
        """
        if (status := self._status(link)) is None:
            return None
        is_file = stat.S_ISREG(status.st_mode)
        if is_file and status.st_uid != self._owner:
            require_access(f"{self._path}/{link}", os.W_OK)
        return is_file

    def _status(self, link: str) -> os.stat_result | None:
        try:
            return os.stat(self._prefix + link, dir_fd=self._directory, follow_symlinks=False)
        except OSError as error:
            if error.errno in ABSENT:
                return None
            raise


def obstacle(repository: str, link: str) -> str:
    """Return what is in the place of a directory on the way to a link of a repository, "" if nothing is.

    ``repository`` is the path of its directory. The registry follows symbolic links, but those in its own
    directories of a repository lead nowhere.
    """
    path = repository
    for name in link.split("/")[:-1]:
        path = f"{path}/{name}"
        if os.path.islink(path) or (os.path.lexists(path) and not os.path.isdir(path)):  # noqa: PTH112, PTH114
            return path
    return ""
