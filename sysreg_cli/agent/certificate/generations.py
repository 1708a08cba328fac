"""Generations of key and chain, and the one symbolic link that says which is in use.

    <directory>/generations/000007/server.key     0440, group of <directory> (the services that read it)
    <directory>/generations/000007/server.crt     0444, the chain as given
    <directory>/current -> generations/000007     what every service reads
    <directory>/previous -> generations/000006    during a change: renamed to undo it, without needing space

Names are numbers that grow, so whatever is newer than ``current`` is an unfinished change.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from sysreg_cli.agent import failpoint, files

KEY_FILE = "server.key"
CHAIN_FILE = "server.crt"

_NAME = re.compile(r"[0-9]{6,12}")


class Generations:
    """The certificates in ``settings.certificate.directory``. Every method may raise OSError."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._all = directory / "generations"
        self._current = directory / "current"
        self._previous = directory / "previous"

    def current(self) -> str | None:
        """The generation in use, None before the first."""
        try:
            name = Path(os.readlink(self._current)).name  # noqa: PTH115
        except FileNotFoundError:
            return None
        return name if _NAME.fullmatch(name) else None

    def names(self) -> list[str]:
        """All generations, oldest first, unfinished ones included."""
        if not self._all.is_dir():
            return []
        return sorted((one.name for one in self._all.iterdir() if _NAME.fullmatch(one.name)), key=int)

    def next_name(self) -> str:
        """A name newer than all that exist."""
        newest = max((int(name) for name in self.names()), default=0)
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
        group = self._directory.stat().st_gid
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
        elif self._previous.is_symlink() and Path(os.readlink(self._previous)).name == name:  # noqa: PTH115
            files.rename(self._previous, self._current)
        else:
            files.link(self._current, f"generations/{name}")

    def tidy(self, keep: int) -> None:
        """Keep ``keep`` generations, the one in use and those before it; unfinished ones go."""
        current = self.current()
        older = [name for name in self.names() if current is not None and int(name) <= int(current)]
        for name in set(self.names()) - set(older[-keep:]):
            failpoint.reach("remove generation")
            shutil.rmtree(self._all / name)
        if self._all.is_dir():
            files.flush_directory(self._all)
        files.remove(self._previous)
        files.remove_leftovers(self._directory)
