"""What a controller is made of, one value per thing: each compares itself with the machine, and mends it.

``compare`` only looks; ``apply`` may be cut off at any point and be called again; ``remove`` undoes it. What
an item writes, it first puts into the record.
"""

from __future__ import annotations

import contextlib
import difflib
import grp
import hashlib
import os
import pwd
import re
import stat
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sysreg_cli.deploy.record import Record
from sysreg_cli.errors import SysregError
from sysreg_cli.host import failpoint, files
from sysreg_cli.host.locks import services_lock

_LOCK_SECONDS = 30.0


@dataclass(frozen=True)
class Change:
    """What ``apply`` would do: a line, and for text its diff. ``foreign``: it overwrites another's file.

    ``restarts``: units that notice just this change only by a restart, beside those of the item.
    """

    line: str
    diff: str = ""
    foreign: bool = False
    restarts: tuple[str, ...] = ()


@dataclass
class Context:
    """What the items of one run share: the record, and the units to be restarted for changes before."""

    record: Record
    pending: set[str] = field(default_factory=set)
    #: gets what a step has to say besides its change
    report: Callable[[str], None] = lambda _line: None

    def done(self, unit: str) -> None:
        """``unit`` was restarted. Raises Conflict, OSError."""
        self.pending.discard(unit)
        if unit in self.record.restart:
            self.record.restart.remove(unit)
            # an agent that starts removes, under this lock, what looks like an interrupted write
            with services_lock(self.record.directory, "sysreg-deploy", wait=_LOCK_SECONDS):
                self.record.save()


class Item(Protocol):
    """One thing that a controller has."""

    @property
    def restarts(self) -> tuple[str, ...]:
        """Units that notice a change only by a restart."""
        ...

    def compare(self, context: Context) -> Change | None:
        """What is not as it should be; None if all is. Raises SysregError, OSError."""
        ...

    def apply(self, context: Context) -> None:
        """Make it so. Raises SysregError, OSError."""
        ...

    def remove(self, context: Context) -> str:
        """Undo it; one line of what was done, empty if nothing was there. Raises SysregError, OSError."""
        ...


@dataclass(frozen=True)
class File:
    """A file with this content, of root and ``group``. ``seed``: only laid down once, then the operator's."""

    path: Path
    content: bytes
    mode: int = 0o644
    group: str = "root"
    restarts: tuple[str, ...] = ()
    seed: bool = False

    def compare(self, context: Context) -> Change | None:
        try:
            status = self.path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return Change(f"create {self.path}", _diff(self.path, b"", self.content))
        if self.seed:
            return None
        if not stat.S_ISREG(status.st_mode):
            return Change(f"replace {self.path}, which is no plain file", foreign=True)
        present = self.path.read_bytes()
        if present != self.content:
            diff = _diff(self.path, present, self.content)
            if context.record.owns(self.path):
                return Change(f"change {self.path}", diff)
            if _is_untouched_conffile(self.path, present):
                return Change(f"replace {self.path}, its package's own, which is kept", diff)
            return Change(f"replace {self.path}, which sysreg-deploy did not write", diff, foreign=True)
        return attributes(self.path, status, self.mode, "root", self.group)

    def apply(self, context: Context) -> None:
        record = context.record
        record.make_directory(self.path.parent)
        if self.path.is_symlink() or (self.path.exists() and not self.path.is_file()):
            raise SysregError(
                f"{self.path} is no plain file", next_step="move it away and run sysreg-deploy again"
            )
        if self.path.exists() and self.path.read_bytes() != self.content:
            record.keep(self.path, edited=record.owns(self.path))
        record.take(self.path)
        write(self.path, self.content, mode=self.mode, group=self.group)

    def remove(self, context: Context) -> str:
        if not context.record.owns(self.path):
            return ""
        if self.seed and self.path.exists() and self.path.read_bytes() != self.content:
            return f"kept {self.path}, which was changed after it was laid down"
        return put_back(self.path, context.record)


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    path: Path
    target: str
    restarts: tuple[str, ...] = ()

    def compare(self, context: Context) -> Change | None:
        if self.path.is_symlink():
            present = str(self.path.readlink())
            if present == self.target:
                return None
            return Change(
                f"link {self.path} to {self.target} instead of {present}",
                foreign=not context.record.owns(self.path),
            )
        if self.path.exists():
            return Change(f"replace {self.path} by a link to {self.target}", foreign=True)
        return Change(f"link {self.path} to {self.target}")

    def apply(self, context: Context) -> None:
        if self.path.exists() and not self.path.is_symlink():
            if not self.path.is_file():
                raise SysregError(
                    f"{self.path} is no file", next_step="move it away and run sysreg-deploy again"
                )
            context.record.keep(self.path)
        elif self.path.is_symlink() and not context.record.owns(self.path):
            context.record.keep(self.path)
        context.record.make_directory(self.path.parent)
        context.record.take(self.path)
        files.link(self.path, self.target)

    def remove(self, context: Context) -> str:
        return put_back(self.path, context.record) if context.record.owns(self.path) else ""


@dataclass(frozen=True)
class Block:
    """Lines of ours in a file that belongs to others, between two marker comments, at its end."""

    path: Path
    text: str
    restarts: tuple[str, ...] = ()

    _BEGIN = "# begin sysreg-deploy\n"
    _END = "# end sysreg-deploy\n"

    def _split(self) -> tuple[str, str, str]:
        try:
            # whatever others have put there goes back byte by byte
            whole = self.path.read_text(errors="surrogateescape")
        except FileNotFoundError:
            return "", "", ""
        pattern = f"(.*?)({re.escape(self._BEGIN)}.*?{re.escape(self._END)})(.*)"
        if found := re.fullmatch(pattern, whole, re.DOTALL):
            return found[1], found[2], found[3]
        return whole, "", ""

    @property
    def _block(self) -> str:
        return f"{self._BEGIN}{self.text}{self._END}"

    def compare(self, context: Context) -> Change | None:
        before, block, after = self._split()
        if block == self._block:
            return None
        return Change(
            f"change lines of ours in {self.path}",
            _diff(self.path, (before + block + after).encode(), (before + self._block + after).encode()),
        )

    def apply(self, context: Context) -> None:
        before, _, after = self._split()
        if before and not before.endswith("\n"):
            before += "\n"
        if not self.path.exists():
            context.record.make_directory(self.path.parent)
            context.record.take(self.path)
        self._write(before + self._block + after)

    def remove(self, context: Context) -> str:
        before, block, after = self._split()
        if not block:
            return ""
        if context.record.owns(self.path) and not (before + after).strip():
            return put_back(self.path, context.record)
        self._write(before + after)
        return f"removed lines of ours from {self.path}"

    def _write(self, text: str) -> None:
        mode, group = 0o644, None
        with contextlib.suppress(FileNotFoundError):
            status = self.path.stat()
            mode, group = status.st_mode & 0o7777, status.st_gid
        files.write(self.path, text.encode(errors="surrogateescape"), mode=mode, group=group)


def command(*words: str, timeout: float = 90) -> None:
    """Have a program of the system change something. Raises SysregError with the last line it wrote."""
    failpoint.reach(f"run {words[0]}")
    ask(*words, timeout=timeout)


def ask(*words: str, timeout: float = 90) -> str:
    """What a program of the system says. Raises SysregError with the last line it wrote."""
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=timeout, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise SysregError(f"{words[0]} cannot be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise SysregError(f"{' '.join(words)}: not done within {timeout:g} s") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
        raise SysregError(f"{' '.join(words)} failed: {said[-1]}")
    return done.stdout


def write(path: Path, content: bytes, *, mode: int, group: str = "root") -> None:
    """Write a file of root:``group``. Raises SysregError if there is no such group, and OSError."""
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError:
        raise SysregError(f"{path}: the group {group} does not exist") from None
    files.write(path, content, mode=mode, group=gid)


def put_back(path: Path, record: Record) -> str:
    """Remove a file or link of ours, or put back what stood there before. Raises OSError."""
    backup = record.backups.pop(str(path), "")
    if backup and Path(backup).is_symlink():
        files.link(path, str(Path(backup).readlink()))
        done = f"restored {path}"
    elif backup and Path(backup).exists():
        status = Path(backup).stat()
        files.write(path, Path(backup).read_bytes(), mode=status.st_mode & 0o7777, group=status.st_gid)
        done = f"restored {path}"
    elif path.is_symlink() or path.exists():
        files.remove(path)
        done = f"removed {path}"
    else:
        done = ""
    if record.owns(path):
        record.files.remove(str(path))
    return done


def attributes(path: Path, status: os.stat_result, mode: int | None, owner: str, group: str) -> Change | None:
    present = f"{_name(pwd.getpwuid, status.st_uid)}:{_name(grp.getgrgid, status.st_gid)}"
    is_mode = stat.S_IMODE(status.st_mode)
    if present == f"{owner}:{group}" and mode in (None, is_mode):
        return None
    wanted = is_mode if mode is None else mode
    return Change(f"set {path} to {wanted:04o} {owner}:{group}, from {is_mode:04o} {present}")


def together(changes: Iterable[Change | None]) -> Change | None:
    """Several changes of one item as one."""
    lines = [change.line for change in changes if change]
    return Change("; ".join(lines)) if lines else None


def _name(lookup: object, number: int) -> str:
    try:
        return str(lookup(number)[0])  # type: ignore[operator]
    except KeyError:
        return str(number)


def _diff(path: Path, before: bytes, after: bytes) -> str:
    lines = difflib.unified_diff(
        before.decode(errors="replace").splitlines(),
        after.decode(errors="replace").splitlines(),
        str(path) if before else "/dev/null",
        str(path),
        lineterm="",
    )
    return "\n".join(lines)


def _is_untouched_conffile(path: Path, content: bytes) -> bool:
    """Whether dpkg knows the file as a configuration file with exactly this content."""
    found = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Conffiles}\n", "docker-registry"],
        capture_output=True,
        text=True,
        check=False,
    )
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return f"{path} {digest}" in (" ".join(line.split()[:2]) for line in found.stdout.splitlines())
