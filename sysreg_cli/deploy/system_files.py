"""The accounts of a sysusers.d file, and the directories and files of a tmpfiles.d file.

systemd-sysusers and systemd-tmpfiles make them. See sysusers.d(5) and tmpfiles.d(5).
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shlex
import stat
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sysreg_cli.deploy.file import File
from sysreg_cli.deploy.machine import PUBLIC_DIRECTORY, Attributes, CommandFailed
from sysreg_cli.deploy.resource import Change, Context, Resource, attributes_change
from sysreg_cli.tokens import write_lock

_KINDS = {"u": "user", "g": "group", "m": "member"}


@dataclass(frozen=True)
class Accounts(Resource):
    """All accounts of one sysusers.d file. Those that sysreg-deploy made are removed with it.

    A membership that it made for an older version, and that the file does not list any more, is removed. They
    are named ``user NAME``, ``group NAME`` and ``member NAME of GROUP``, in the record as well.
    """

    source: File

    def _listed(self) -> list[str]:
        lines = (shlex.split(line, comments=True) for line in self.source.wanted().decode().splitlines())
        return [
            f"{_KINDS[kind]} {name}" + (f" of {rest[0]}" if kind == "m" else "")
            for kind, name, *rest in filter(None, lines)
        ]

    def _missing(self) -> list[str]:
        return [name for name in self._listed() if not _account_exists(name)]

    def _retired(self, context: Context) -> list[str]:
        members = [name for name in context.record.accounts if name.startswith("member ")]
        return [name for name in members if name not in self._listed() and _account_exists(name)]

    def compare(self, context: Context) -> Change | None:
        missing, retired = self._missing(), self._retired(context)
        lines = [
            f"{word} {', '.join(names)}"
            for word, names in (("create", missing), ("remove", retired))
            if names
        ]
        return Change("; ".join(lines), self._apply) if lines else None

    def _apply(self, context: Context) -> None:
        record = context.record
        missing, retired = self._missing(), self._retired(context)
        record.accounts += [name for name in missing if name not in record.accounts]
        record.save()
        if missing:
            context.programs.change("systemd-sysusers", str(self.source.path))
        for account in retired:
            _remove_member(account, context)
            record.accounts.remove(account)

    def remove(self, context: Context) -> str:
        removed = []
        for account in filter(_account_exists, reversed(context.record.accounts)):
            kind, name, *_ = account.split()
            if kind == "member":
                with contextlib.suppress(CommandFailed):  # it may have gone with its group
                    _remove_member(account, context)
                continue
            context.programs.change("userdel" if kind == "user" else "groupdel", name)
            removed.append(account)
        context.record.accounts.clear()
        return f"removed {', '.join(removed)}" if removed else ""


def _remove_member(account: str, context: Context) -> None:
    _, name, _, group = account.split()
    context.programs.change("gpasswd", "--delete", name, group)


def _account_exists(account: str) -> bool:
    kind, name, *rest = account.split()
    try:
        if kind == "member":
            return name in grp.getgrnam(rest[-1]).gr_mem
        return bool(pwd.getpwnam(name) if kind == "user" else grp.getgrnam(name))
    except KeyError:
        return False


@dataclass(frozen=True)
class TmpfilesEntry:
    """One line of a tmpfiles.d file: a directory (``d``) or a file (``f``). See tmpfiles.d(5)."""

    kind: str
    path: Path
    attributes: Attributes

    @classmethod
    def parse(cls, line: str) -> TmpfilesEntry:
        kind, path, mode, owner, group, *_ = line.split()
        return cls(kind, Path(path), Attributes(None if mode == "-" else int(mode, 8), owner, group))

    @property
    def is_missing(self) -> bool:
        return not os.path.lexists(self.path)

    @property
    def is_of_other_kind(self) -> bool:
        """Whether something else is at its path. Raises FileNotFoundError."""
        is_kind = stat.S_ISDIR if self.kind == "d" else stat.S_ISREG
        return not is_kind(self.path.lstat().st_mode)


@dataclass(frozen=True)
class Tmpfiles(Resource):
    """Everything that a tmpfiles.d file lists. systemd-tmpfiles makes it, here and at each boot."""

    source: File
    #: Daemons that mount these paths. They see a path that was created anew only after a restart.
    mounted_by: tuple[str, ...] = ()

    @property
    def entries(self) -> tuple[TmpfilesEntry, ...]:
        lines = self.source.wanted().decode().splitlines()
        return tuple(TmpfilesEntry.parse(line) for line in lines if line.strip() and not line.startswith("#"))

    def compare(self, context: Context) -> Change | None:
        missing = [entry for entry in self.entries if entry.is_missing]
        present = [entry for entry in self.entries if entry not in missing]
        foreign = [
            f"replace {entry.path}, which is of another kind" for entry in present if entry.is_of_other_kind
        ]
        lines = [f"create {entry.path}" for entry in missing] + foreign
        lines += [line for entry in present if (line := entry.attributes.difference(entry.path))]
        if not lines:
            return None
        restarts = self.mounted_by if missing else ()
        return Change(
            "; ".join(lines), partial(self._create, missing), foreign=bool(foreign), restarts=restarts
        )

    def _create(self, missing: list[TmpfilesEntry], context: Context) -> None:
        for entry in missing:
            if entry.kind == "d":
                context.record.make_directory(entry.path)
        context.programs.change("systemd-tmpfiles", "--create", str(self.source.path))
        for entry in missing:
            if entry.path.name == write_lock.RECORD_NAME and context.record.applied:
                # The daemons ran before: write tokens may be in use whose record is lost.
                write_lock.WriteLock(entry.path.parent).record()


@dataclass(frozen=True)
class MadeDirectories(Resource):
    """The directories that sysreg-deploy made are root's, and only root writes into them.

    ``others`` belong to other resources.
    """

    others: frozenset[Path]

    def compare(self, context: Context) -> Change | None:
        made = (Path(directory) for directory in context.record.directories)
        own = [path for path in made if path not in self.others and path.is_dir()]
        return attributes_change(dict.fromkeys(own, PUBLIC_DIRECTORY))
