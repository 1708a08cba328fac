"""What sysreg-deploy has laid down on this machine, so that it can tell its own files from others'.

``<state>/deploy.json``, written before each change it speaks of: a run that was killed leaves a record that
names at most too much, and the next run, or ``--remove``, starts from it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sysreg_cli.errors import SysregError
from sysreg_cli.host import files


@dataclass
class Record:
    """The record of one machine; lists and sets are kept as JSON knows them."""

    directory: Path
    #: files and links written by us
    files: list[str] = field(default_factory=list)
    #: path -> where the file that stood there before is kept
    backups: dict[str, str] = field(default_factory=dict)
    #: directories that weren't there before
    directories: list[str] = field(default_factory=list)
    #: units that have to be restarted for changes already made
    restart: list[str] = field(default_factory=list)
    #: accounts that weren't there before
    accounts: list[str] = field(default_factory=list)
    #: units that weren't enabled before
    enabled: list[str] = field(default_factory=list)
    #: digest of the settings and the version that the daemons run with
    taken: str = ""
    #: Unix time at which the token server was seen to sign with the next key; 0: not yet
    retired: float = 0.0

    @classmethod
    def load(cls, state: Path) -> Record:
        """Read the record below ``state``; an empty one if there is none. Raises SysregError."""
        path = _path(state)
        try:
            return cls(state, **json.loads(path.read_text()))
        except FileNotFoundError:
            return cls(state)
        except (OSError, ValueError, TypeError) as error:
            raise SysregError(
                f"the record of what was deployed cannot be read: {path}: {error}",
                next_step="restore it from a backup, or remove it and run sysreg-deploy --adopt",
            ) from None

    def save(self) -> None:
        """Write the record durably. Raises OSError."""
        if not self.directory.is_dir():
            self.make_directory(self.directory)
        values = asdict(self)
        del values["directory"]
        data = json.dumps(values, indent=1).encode()
        path = _path(self.directory)
        if not path.exists() or path.read_bytes() != data:
            files.write(path, data, mode=0o600)

    @property
    def is_empty(self) -> bool:
        """Whether nothing of ours is on this machine, as far as the record knows."""
        return not (self.files or self.directories)

    def owns(self, path: Path) -> bool:
        """Whether the file at ``path`` was written by us."""
        return str(path) in self.files

    def take(self, path: Path) -> None:
        """Say that ``path`` is about to be written by us. Raises OSError."""
        if str(path) not in self.files:
            self.files.append(str(path))
            self.save()

    def make_directory(self, path: Path) -> None:
        """Make a directory and its parents, 0755, and remember those that are new. Raises OSError."""
        missing = [one for one in (path, *path.parents) if not one.exists()]
        missing.reverse()
        self.directories += [str(one) for one in missing if str(one) not in self.directories]
        if missing and self.directory.is_dir():
            self.save()  # before they are made: one that a killed run made is removed, too
        for one in missing:
            one.mkdir(mode=0o755, exist_ok=True)
            one.chmod(0o755)
        if missing:
            self.save()

    def keep(self, path: Path, *, edited: bool = False) -> Path:
        """Keep a copy of the file or link at ``path``; ``edited``: of ours, beside the one from before us.

        The first copy of a file from before us stays: it is what ``--remove`` brings back. Raises OSError.
        """
        kept = (
            self.directory
            / "backup"
            / (str(path).strip("/").replace("/", "%") + ("%edited" if edited else ""))
        )
        if edited or str(path) not in self.backups:
            self.make_directory(kept.parent)
            if path.is_symlink():
                files.link(kept, str(path.readlink()))
            else:
                status = path.stat()
                files.write(kept, path.read_bytes(), mode=status.st_mode & 0o7777, group=status.st_gid)
            if not edited:
                self.backups[str(path)] = str(kept)
            self.save()
        return kept


def _path(state: Path) -> Path:
    return state / "deploy.json"
