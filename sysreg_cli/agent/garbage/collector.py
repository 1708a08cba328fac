"""Running ``docker-registry garbage-collect``: as the registry's user, with the write lock, into a file.

The child inherits the descriptor of the write lock. If the agent dies, the lock stays until the collector
is gone too. Its output goes to a file, because a child that writes to a pipe whose reader died is killed.
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
from typing import BinaryIO, TypedDict

from sysreg_cli.errors import SysregError

PROGRAMS = ("docker-registry", "registry")
_ELIGIBLE = re.compile(r"^blob eligible for deletion: (\S+)$")
# The collector is in the kernel's hands for no longer than one unlink, unless the storage hangs.
_KILL_SECONDS = 10.0
_LONGEST_REASON = 400


class _User(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


class CollectorLives(SysregError):
    """The collector outlives SIGKILL. It still holds the write lock, so nothing may be undone."""


@dataclass(slots=True)
class Output:
    """What the collector has written so far; ``eligible`` are the blobs it deletes, in order."""

    manifests: int = 0
    eligible: list[str] = field(default_factory=list)
    _rest: str = ""

    def feed(self, text: str) -> None:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if found := _ELIGIBLE.match(line):
                self.eligible.append(found[1])
            elif ": marking manifest " in line:
                self.manifests += 1


def run(
    config: Path,
    storage: Path | None,
    directory: Path,
    *,
    write_lock: int | None,
    pause: Callable[[float, Output], None],
    started: Callable[[int], None] = lambda pid: None,
) -> Output:
    """Run the collector to its end; ``write_lock`` is the descriptor to inherit, None makes it a dry run.

    ``pause`` is called several times a second, and ends the collector by raising. Raises SysregError when the
    collector fails, or isn't there; CollectorLives when it can't be ended.
    """
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        raise SysregError(
            f"the registry's collector is missing: no {' or '.join(PROGRAMS)} in PATH",
            next_step="install the package docker-registry",
        )
    words = [program, "garbage-collect", *(["--dry-run"] if write_lock is None else []), str(config)]
    out_path, error_path = directory / "collector.out", directory / "collector.err"
    with _create(out_path) as out, _create(error_path) as errors, out_path.open(errors="replace") as reader:
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
                pass_fds=() if write_lock is None else (write_lock,),
                start_new_session=True,
                **_user(storage),
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
                pause(0.1, output)
        finally:
            _end(process)
        output.feed(reader.read() + "\n")
    if process.returncode != 0:
        raise SysregError(f"the registry's collector failed: {_reason(process.returncode, error_path)}")
    return output


def terminate(pid: int) -> None:
    """End the collector of an agent that died, if that is what ``pid`` still is."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"garbage-collect" in words:
            os.kill(pid, signal.SIGTERM)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_KILL_SECONDS if number == signal.SIGKILL else 2.0)
            return
    raise CollectorLives(
        f"the registry's collector (pid {process.pid}) can't be ended",
        next_step="find out why the storage hangs; pushes wait until the process is gone",
    )


def _create(path: Path) -> BinaryIO:
    """A new file that only we can read; the collector gets it open."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def _user(storage: Path | None) -> _User:
    """The registry's user: whoever owns its storage. Nothing where we are no root, or it is root's."""
    if storage is None or os.geteuid() != 0:
        return {}
    uid, gid = storage.stat().st_uid, storage.stat().st_gid
    if uid == 0:
        return {}
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return {"user": uid, "group": gid, "extra_groups": []}
    return {
        "user": uid,
        "group": entry.pw_gid,
        "extra_groups": os.getgrouplist(entry.pw_name, entry.pw_gid),
    }


def _reason(status: int, error_path: Path) -> str:
    """The first line the collector wrote as its last words, or how it ended."""
    lines = error_path.read_text(errors="replace").splitlines()
    said = next((line for line in lines if line.startswith(("failed to", "configuration error"))), "")
    said = said or next((line for line in reversed(lines) if line.strip()), "")
    if said:
        return said.partition("Usage:")[0].strip()[:_LONGEST_REASON]
    return f"signal {-status}" if status < 0 else f"exit status {status}"
