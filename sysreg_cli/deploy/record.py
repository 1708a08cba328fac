"""The record of what sysreg-deploy did on this machine: ``<state>/deploy.json``.

With it, sysreg-deploy tells its own files from those of others. A resource writes into the record before it
changes the machine. So after a run that was killed, the record may name too much, but it names everything;
the next run, or ``--remove``, starts from it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from sysreg_cli.errors import SysregError
from sysreg_cli.host import files

#: Records without a number are older than format 1.
_FORMAT = 1


@dataclass
class Record:
    """The record of one machine. A field that this version doesn't know is kept in ``unknown``."""

    directory: Path
    #: files and links that sysreg-deploy wrote
    files: list[str] = field(default_factory=list)
    #: path -> the copy of the file or link that sysreg-deploy replaced there
    backups: dict[str, str] = field(default_factory=dict)
    #: directories that sysreg-deploy made
    directories: list[str] = field(default_factory=list)
    #: units that have to be restarted for changes already made
    restart: list[str] = field(default_factory=list)
    #: accounts that sysreg-deploy made
    accounts: list[str] = field(default_factory=list)
    #: units that sysreg-deploy enabled
    enabled: list[str] = field(default_factory=list)
    #: unit -> digest of the code and settings that its daemon was started with
    applied: dict[str, str] = field(default_factory=dict)
    #: Unix time at which the token server was first seen to sign with the next key; 0: not yet
    retired: float = 0.0
    unknown: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, state: Path) -> Record:
        """Read the record below ``state``; an empty one if there is none. Raises SysregError."""
        path = _path(state)
        try:
            return cls(state, **_read(json.loads(path.read_text())))
        except FileNotFoundError:
            return cls(state)
        except (OSError, ValueError, TypeError, AttributeError) as error:
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
        data = json.dumps({"format": _FORMAT, **values.pop("unknown"), **values}, indent=1).encode()
        path = _path(self.directory)
        if not path.exists() or path.read_bytes() != data:
            files.write(path, data, mode=0o600)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is deployed on this machine."""
        return not (self.files or self.directories)

    def owns(self, path: Path) -> bool:
        """Whether sysreg-deploy wrote the file at ``path``."""
        return str(path) in self.files

    def take(self, *paths: Path) -> None:
        """Write down that sysreg-deploy writes ``paths``. Raises OSError."""
        new = [str(path) for path in paths if not self.owns(path)]
        if new:
            self.files += new
            self.save()

    def make_directory(self, path: Path) -> None:
        """Make a directory and its parents, 0755, and remember those that are new. Raises OSError."""
        missing = [directory for directory in (path, *path.parents) if not directory.exists()]
        missing.reverse()
        self.directories += [str(one) for one in missing if str(one) not in self.directories]
        if missing and self.directory.is_dir():
            self.save()  # before they are made, so that --remove finds those of a killed run, too
        for directory in missing:
            directory.mkdir(mode=0o755, exist_ok=True)
            directory.chmod(0o755)
        if missing:
            self.save()

    def keep(self, path: Path) -> None:
        """Copy the file or link at ``path`` before it is replaced. Raises OSError.

        A file of others is copied once: ``put_back`` restores that first copy. A file that sysreg-deploy
        wrote and somebody edited is copied beside it.
        """
        edited = self.owns(path)
        if not edited and str(path) in self.backups:
            return
        name = str(path).strip("/").replace("/", "%") + ("%edited" if edited else "")
        backup = self.directory / "backup" / name
        self.make_directory(backup.parent)
        _copy(path, backup)
        if not edited:
            self.backups[str(path)] = str(backup)
        self.save()

    def put_back(self, path: Path) -> str:
        """Restore what sysreg-deploy replaced at ``path``, else remove its file. Raises OSError.

        Return a line that says what was done, or an empty one.
        """
        backup = self.backups.pop(str(path), "")
        done = ""
        if backup and (Path(backup).is_symlink() or Path(backup).exists()):
            _copy(Path(backup), path)
            done = f"restored {path}"
        elif path.is_symlink() or path.exists():
            files.remove(path)
            done = f"removed {path}"
        if self.owns(path):
            self.files.remove(str(path))
        return done


def _read(values: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a record. Raises ValueError if a later version changed their meaning."""
    if values.pop("format", 0) > _FORMAT:
        raise ValueError("a newer version of sysreg wrote it")
    if settings := values.pop("taken", ""):
        values["applied"] = {
            "": settings
        }  # one digest for all daemons; it equals none of today's, so all restart
    known = {entry.name for entry in fields(Record)} - {"directory", "unknown"}
    found = {name: value for name, value in values.items() if name in known}
    return {**found, "unknown": {name: value for name, value in values.items() if name not in known}}


def _copy(source: Path, target: Path) -> None:
    if source.is_symlink():
        files.link(target, str(source.readlink()))
    else:
        status = source.stat()
        files.write(target, source.read_bytes(), mode=status.st_mode & 0o7777, group=status.st_gid)


def _path(state: Path) -> Path:
    return state / "deploy.json"
