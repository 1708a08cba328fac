"""Generations of key and chain, and the one symbolic link that says which is in use.

    <directory>/generations/000007/server.key     root:sysreg-tls 0440: two unprivileged services read it
    <directory>/generations/000007/server.crt     0444, the chain as given
    <directory>/current -> generations/000007     what every service reads
    <directory>/previous -> generations/000006    during a change: renamed to undo it, without needing space

Names are numbers that grow, so what is newer than ``current`` is an unfinished change. The first generation,
which deployment made, may have any name.
"""

from __future__ import annotations

import grp
import os
import shutil
from pathlib import Path

from sysreg_cli.host import failpoint, files

KEY_FILE = "server.key"
CHAIN_FILE = "server.crt"

#: who may read the key; where the group doesn't exist, the group of the directory
KEY_GROUP = "sysreg-tls"


class Generations:
    """The certificates in ``settings.certificate.directory``. Every method may raise OSError."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._all = directory / "generations"
        self._current = directory / "current"
        self._previous = directory / "previous"

    def current(self) -> str | None:
        """The generation in use, None before the first."""
        return _target(self._current)

    def names(self) -> list[str]:
        """All generations, oldest first, unfinished ones included."""
        if not self._all.is_dir():
            return []
        return sorted((one.name for one in self._all.iterdir()), key=_age)

    def before(self, name: str) -> list[str]:
        """The generations older than ``name``, oldest first."""
        return [one for one in self.names() if _age(one) < _age(name)]

    def next_name(self) -> str:
        """A name newer than all that exist."""
        newest = max((_age(name)[0] for name in self.names()), default=0)
        return f"{newest + 1:06}"

    def chain(self, name: str) -> bytes:
        """The chain of a generation, PEM."""
        return (self._all / name / CHAIN_FILE).read_bytes()

    def create(self, name: str, key: bytes, chain: bytes) -> None:
        """Write a generation durably; it isn't in use yet."""
        self._all.mkdir(mode=0o755, exist_ok=True)
        generation = self._all / name
        failpoint.reach("write generation")
        generation.mkdir(mode=0o755)
        files.flush_directory(self._all)
        group = self._key_group()
        files.write(generation / KEY_FILE, key, mode=0o440, group=group)
        files.write(generation / CHAIN_FILE, chain, mode=0o444, group=group)

    def use(self, name: str) -> None:
        """Switch to ``name`` by one rename; ``go_back`` undoes it."""
        before = self.current()
        if before is not None:
            files.link(self._previous, f"generations/{before}")
        files.link(self._current, f"generations/{name}")

    def go_back(self, name: str | None) -> None:
        """Switch back to ``name``, or to none. Needs no space on the disk when it undoes ``use``."""
        if name is None:
            files.remove(self._current)
        elif _target(self._previous) == name:
            files.rename(self._previous, self._current)
        else:
            files.link(self._current, f"generations/{name}")

    def tidy(self, keep: int) -> None:
        """Keep ``keep`` generations, the one in use and those before it; unfinished ones go."""
        current = self.current()
        kept = [*self.before(current), current][-keep:] if current else []
        for name in self.names():
            if name in kept:
                continue
            failpoint.reach("remove generation")
            shutil.rmtree(self._all / name)
        if self._all.is_dir():
            files.flush_directory(self._all)
        files.remove(self._previous)

    def _key_group(self) -> int:
        try:
            return grp.getgrnam(KEY_GROUP).gr_gid
        except KeyError:
            return self._directory.stat().st_gid


def _target(link: Path) -> str | None:
    """The generation that a link names."""
    try:
        return Path(os.readlink(link)).name  # noqa: PTH115
    except FileNotFoundError:
        return None


def _age(name: str) -> tuple[int, str]:
    """What generations are sorted by, oldest first."""
    return (int(name) if name.isdecimal() else 0, name)
