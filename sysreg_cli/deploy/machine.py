"""How resources look at the machine and change it: attributes of files, and programs of the system."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sysreg_cli.errors import SysregError
from sysreg_cli.host import failpoint, files


@dataclass(frozen=True)
class Attributes:
    """Mode, owner and group of a file or directory. A ``mode`` of None leaves the mode as it is.

    The default owner is root: the user of this process, except in tests.
    """

    mode: int | None
    owner: str = field(default_factory=lambda: pwd.getpwuid(os.geteuid()).pw_name)
    group: str = field(default_factory=lambda: grp.getgrgid(os.getegid()).gr_name)

    def difference(self, path: Path) -> str:
        """Say what has to be set at ``path``. Empty if it has these attributes. Raises OSError."""
        status = path.lstat()
        present = f"{_name(pwd.getpwuid, status.st_uid)}:{_name(grp.getgrgid, status.st_gid)}"
        present_mode = stat.S_IMODE(status.st_mode)
        if present == f"{self.owner}:{self.group}" and self.mode in (None, present_mode):
            return ""
        mode = present_mode if self.mode is None else self.mode
        return f"set {path} to {mode:04o} {self.owner}:{self.group}, from {present_mode:04o} {present}"

    def set(self, path: Path) -> None:
        """Give ``path`` these attributes. Raises OSError, and LookupError if there is no such account."""
        shutil.chown(path, self.owner, self.group)
        if self.mode is not None:
            path.chmod(self.mode)

    def write(self, path: Path, content: bytes) -> None:
        """Write a file durably, as this process's user. Raises OSError, SysregError without the group."""
        assert self.mode is not None, "a file that is written needs a mode"
        try:
            group = grp.getgrnam(self.group).gr_gid
        except KeyError:
            raise SysregError(f"{path}: the group {self.group} does not exist") from None
        files.write(path, content, mode=self.mode, group=group)


PUBLIC = Attributes(0o644)
PUBLIC_DIRECTORY = Attributes(0o755)


class CommandFailed(SysregError):
    """A program of the system failed. ``reason`` is the message without the program's arguments."""

    def __init__(self, args: tuple[str, ...], reason: str) -> None:
        super().__init__(f"{' '.join(args)} {reason}")
        self.reason = f"{args[0]} {reason}"


class Programs:
    """Runs programs of the system. Each method raises CommandFailed. ``timeout`` is in seconds."""

    def change(self, *args: str, timeout: float = 90) -> None:
        """Run a program that changes something."""
        failpoint.reach(f"run {args[0]}")
        self.query(*args, timeout=timeout)

    def query(self, *args: str, check: bool = True, timeout: float = 90) -> str:
        """Run a program and return its output. Without ``check``, its exit status does not matter."""
        try:
            done = subprocess.run(
                args, capture_output=True, text=True, check=False, timeout=timeout, stdin=subprocess.DEVNULL
            )
        except OSError as error:
            raise CommandFailed(args, f"cannot be run: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise CommandFailed(args, f"did not end within {timeout:g} s") from None
        if check and done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines()
            raise CommandFailed(args, f"failed: {lines[-1] if lines else f'exit status {done.returncode}'}")
        return done.stdout


def _name(lookup: Callable[[int], tuple[object, ...]], number: int) -> str:
    try:
        return str(lookup(number)[0])
    except KeyError:
        return str(number)
