"""A source that is a directory: certbot's ``live/NAME``, the volume of a CSI driver, or files of a script.

certbot's files are links into ``archive/NAME``, which it replaces one after the other. In a volume of the
kubelet they are links through ``..data``, which it replaces by a rename. So each link on the way counts. The
files are looked at again and again: inotify(7) does not follow links, and reports nothing on network mounts.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sysreg_cli.agent.renewal.readings import Reading
from sysreg_cli.errors import text_of
from sysreg_cli.settings import DirectorySource
from sysreg_cli.v1.certificates import MAX_BYTES, Mode

_READ_SECONDS = 3600.0
#: key, chain and CA: the names of certbot, then those of cert-manager's CSI driver
_NAMES = (("privkey.pem", "fullchain.pem", ""), ("tls.key", "tls.crt", "ca.crt"))
_MAX_LINKS = 40


class FollowedDirectory:
    """The source ``files:/DIRECTORY``."""

    def __init__(self, source: DirectorySource, *, poll_seconds: float = 1.0) -> None:
        self._source = source
        self._poll_seconds = poll_seconds

    def __str__(self) -> str:
        return str(self._source)

    def follow(self, report: Callable[[Reading], None], stopping: threading.Event) -> None:
        """See ``Source.follow``."""
        seen: object = None
        due = 0.0
        while not stopping.is_set():
            # before the files are read: what changes while they are read is found at the next look
            stamps = self._stamps()
            if stamps != seen or time.monotonic() >= due:
                report(self.read())
                seen, due = stamps, time.monotonic() + _READ_SECONDS
            stopping.wait(self._poll_seconds)

    def read(self) -> Reading:
        """Read the files as they are now."""
        directory = self._source.directory
        for names in _NAMES:
            if any(os.path.lexists(directory / name) for name in names[:2]):
                try:
                    return Reading.of(*(_content(directory / name) for name in names if name))
                except OSError as error:
                    return Reading(problem=text_of(error))
        if not directory.is_dir():
            return Reading(problem=f"there is no directory {directory}")
        return Reading(
            problem=f"{directory} holds no fullchain.pem with privkey.pem, and no tls.crt with tls.key"
        )

    def _stamps(self) -> list[tuple[int, ...]]:
        names = [name for group in _NAMES for name in group if name]
        return [stamp for name in names for stamp in _trail(self._source.directory / name)]


def _content(path: Path) -> bytes:
    """Return the content of a file; b"" for a missing ca.crt. Raises OSError."""
    try:
        # not blocked by a FIFO; too long a file is refused by the checks
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        if path.name == "ca.crt":
            return b""
        raise
    try:
        file = os.fdopen(descriptor, "rb")
    except OSError:  # a directory
        os.close(descriptor)
        raise
    with file:
        return file.read(MAX_BYTES[Mode.DOCKER_REGISTRY] + 1)


def _trail(path: Path) -> Iterator[tuple[int, ...]]:
    """Yield what changes when ``path`` or a link on the way to it is replaced or written."""
    remaining = list(reversed(path.parts[1:]))
    place = Path("/")
    links = 0
    while remaining:
        part = remaining.pop()
        if part == "..":
            place = place.parent
            continue
        try:
            status = (place / part).lstat()
            target = os.readlink(place / part) if stat.S_ISLNK(status.st_mode) else ""  # noqa: PTH115
        except OSError as error:
            yield (error.errno or 0,)
            return
        if target or not remaining:
            yield status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        if not target:
            place /= part
            continue
        links += 1
        if links > _MAX_LINKS:
            return
        place = Path("/") if target.startswith("/") else place
        remaining += reversed([step for step in target.split("/") if step not in ("", ".")])
