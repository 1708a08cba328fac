"""Runs ``docker-registry garbage-collect`` as the registry's user.

The collector inherits the descriptor of the write lock: if the agent dies, the lock stays held until the
collector has ended too. Its output goes to a file, because a pipe whose reader died would kill it.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from sysreg_cli.errors import SysregError
from sysreg_cli.host.registry_config import RegistryConfig

_PROGRAMS = ("docker-registry", "registry")
_ELIGIBLE = re.compile(r"^blob eligible for deletion: (\S+)$")
_TERM_SECONDS = 2.0
# A killed collector ends after the system call that it is in, one unlink, unless the storage hangs.
_KILL_SECONDS = 10.0
_POLL = 0.02
_MAX_REASON = 400


class CollectorFailed(SysregError):
    """The collector ended by itself with an error, which it makes at a file that it can't read."""


class CollectorLives(SysregError):
    """The collector survives SIGKILL. It still holds the write lock, so the pins must stay."""


@dataclass(slots=True)
class Output:
    """What the collector has written so far: the number of manifests it read, and the blobs it deletes."""

    manifests: int = 0
    eligible: list[str] = field(default_factory=list)
    _rest: str = ""

    def feed(self, text: str) -> None:
        """Parse more output, which may end within a line."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if match := _ELIGIBLE.match(line):
                self.eligible.append(match[1])
            elif ": marking manifest " in line:
                self.manifests += 1


def run(
    config: RegistryConfig,
    directory: Path,
    *,
    pause: Callable[[float, Output], None],
    write_lock: int | None = None,
    started: Callable[[int], None] = lambda pid: None,
) -> Output:
    """Run the collector until it ends, and return its output, which goes to files in ``directory``.

    The collector inherits the descriptor ``write_lock``; None means a dry run. ``pause`` is called with
    seconds to wait, many times a second, and ends the collector by raising. Raises CollectorFailed,
    SysregError if the collector is killed or missing, CollectorLives if it can't be ended.
    """
    program = find()
    command = [program, "garbage-collect", *(["--dry-run"] if write_lock is None else []), str(config.path)]
    out_path, error_path = directory / "collector.out", directory / "collector.err"
    with _create(out_path) as out, _create(error_path) as errors, out_path.open(errors="replace") as reader:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                cwd="/",
                env={**config.environment, "PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
                pass_fds=() if write_lock is None else (write_lock,),
                start_new_session=True,
                **_owner(config.root),
            )
        except OSError as error:
            raise SysregError(
                f"the registry's collector {program} can't be started: {error.strerror}"
            ) from None
        output = Output()
        try:
            started(process.pid)
            while process.poll() is None:
                output.feed(reader.read())
                pause(_POLL, output)
        finally:
            _end(process)
        output.feed(reader.read() + "\n")
    if process.returncode != 0:
        kind = CollectorFailed if process.returncode > 0 else SysregError
        raise kind(f"the registry's collector failed: {_reason(process.returncode, error_path)}")
    return output


def find() -> str:
    """Return the collector's program. Raises SysregError if it is missing."""
    if program := next(filter(None, map(shutil.which, _PROGRAMS)), None):
        return program
    raise SysregError(
        f"the registry's collector is missing: no {' or '.join(_PROGRAMS)} in PATH",
        next_step="install the package docker-registry",
    )


def terminate(pid: int) -> None:
    """Send SIGTERM to the collector of a killed agent, unless ``pid`` is another process by now."""
    with contextlib.suppress(OSError):
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"garbage-collect" in arguments:
            os.kill(pid, signal.SIGTERM)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    for number, seconds in ((signal.SIGTERM, _TERM_SECONDS), (signal.SIGKILL, _KILL_SECONDS)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            return
    raise CollectorLives(
        f"the registry's collector (pid {process.pid}) can't be ended",
        next_step="find out why the storage hangs; pushes wait until the process is gone",
    )


def _create(path: Path) -> BinaryIO:
    """Create a file that only this user can open; the collector inherits it open."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def _owner(storage: Path | None) -> dict[str, Any]:
    """Return the storage's owner as arguments of Popen, none if this process already has its rights."""
    if storage is None or os.geteuid() != 0 or (status := storage.stat()).st_uid == 0:
        return {}
    try:
        entry = pwd.getpwuid(status.st_uid)
    except KeyError:
        return {"user": status.st_uid, "group": status.st_gid, "extra_groups": []}
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": groups}


def _reason(status: int, error_path: Path) -> str:
    """Return the line in which the collector says why it failed, or how it ended."""
    lines = error_path.read_text(errors="replace").splitlines()
    reason = next((line for line in lines if line.startswith(("failed to", "configuration error"))), "")
    reason = reason or next((line for line in reversed(lines) if line.strip()), "")
    if reason:
        return reason.partition("Usage:")[0].strip()[:_MAX_REASON]
    return f"signal {-status}" if status < 0 else f"exit status {status}"
