"""The directories and lock files of the daemons, and the directories that deploying has made."""

from __future__ import annotations

import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from sysreg_cli.deploy.items import Change, Context, File, attributes, command, together
from sysreg_cli.tokens import write_lock


@dataclass(frozen=True)
class Place:
    """A directory or an empty file as one line of our tmpfiles.d file says; systemd makes it.

    ``mounted_by``: the daemons in whose sandboxes it is a mount point. One that is made anew isn't what they
    have mounted.
    """

    path: Path
    kind: str
    mode: int | None
    owner: str
    group: str
    source: Path
    mounted_by: tuple[str, ...] = ()
    restarts: tuple[str, ...] = ()

    def compare(self, context: Context) -> Change | None:
        try:
            status = self.path.lstat()
        except FileNotFoundError:
            return Change(f"create {self.path}", restarts=self.mounted_by)
        wanted = stat.S_ISDIR if self.kind == "d" else stat.S_ISREG
        if not wanted(status.st_mode):
            return Change(f"replace {self.path}, which is of another kind", foreign=True)
        return attributes(self.path, status, self.mode, self.owner, self.group)

    def apply(self, context: Context) -> None:
        lost = not self.path.exists()
        if self.kind == "d" and lost:
            context.record.make_directory(self.path)
        command("systemd-tmpfiles", "--create", str(self.source))
        if self.path.name == write_lock.RECORD_NAME and lost and context.record.taken:
            # tokens that nobody has written down any more may be about
            write_lock.WriteLock(self.path.parent).record()

    def remove(self, context: Context) -> str:
        return ""  # with the state directory; the storage stays


@dataclass(frozen=True)
class Directories:
    """The directories that we made are root's, and nobody else may put anything into them.

    ``others`` belong to items of their own.
    """

    others: frozenset[Path]
    restarts: tuple[str, ...] = ()

    def _ours(self, context: Context) -> list[Path]:
        made = (Path(one) for one in context.record.directories)
        return [path for path in made if path not in self.others and path.is_dir()]

    def compare(self, context: Context) -> Change | None:
        ours = self._ours(context)
        return together(attributes(path, path.lstat(), 0o755, "root", "root") for path in ours)

    def apply(self, context: Context) -> None:
        for path in self._ours(context):
            shutil.chown(path, "root", "root")
            path.chmod(0o755)

    def remove(self, context: Context) -> str:
        return ""  # those that are empty go last of all


def places(tmpfiles: File, mounted_by: tuple[str, ...]) -> list[Place]:
    """What a tmpfiles.d file asks for. See tmpfiles.d(5)."""
    found = []
    for line in tmpfiles.content.decode().splitlines():
        if line.strip() and not line.startswith("#"):
            kind, path, mode, owner, group, *_ = line.split()
            number = None if mode == "-" else int(mode, 8)
            found.append(Place(Path(path), kind, number, owner, group, tmpfiles.path, mounted_by))
    return found
