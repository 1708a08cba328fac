"""Restarts and reloads services through the configured commands (systemd, supervisor, StarlingX's sm)."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess

from sysreg_cli.errors import SettingsError, Unavailable
from sysreg_cli.host import failpoint
from sysreg_cli.settings import AgentSettings

_MAX_REASON = 300  # characters of a command's output in messages
#: What is meant for this process alone.
_PRIVATE_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", failpoint.VARIABLE)


class Services:
    """Runs ``restart_command`` and ``reload_command`` of section [agent]; ``{unit}`` is the service."""

    def __init__(self, settings: AgentSettings) -> None:
        self._restart = split_command(settings.restart_command, "restart_command in section [agent]")
        self._reload = split_command(settings.reload_command, "reload_command in section [agent]")
        self._timeout = settings.restart_timeout

    def restart(self, unit: str) -> None:
        """Restart a service. It may not serve yet when the command has ended.

        Raises Unavailable if the command fails, cannot be run, or takes longer than ``restart_timeout``.
        """
        failpoint.reach(f"restart {unit}")
        self._run(self._restart, unit)

    def reload(self, unit: str) -> None:
        """Have a service read its files again; restart it if that fails. Raises Unavailable."""
        failpoint.reach(f"reload {unit}")
        try:
            self._run(self._reload, unit)
        except Unavailable:
            self._run(self._restart, unit)

    def _run(self, command: list[str], unit: str) -> None:
        run_command([argument.replace("{unit}", unit) for argument in command], unit, timeout=self._timeout)


def split_command(command: str, key: str) -> list[str]:
    """Split the command of the setting ``key`` into arguments. Raises SettingsError."""
    try:
        arguments = shlex.split(command)
    except ValueError as error:
        raise SettingsError("settings refused", [f"{key}: {error}"]) from None
    if not arguments:
        raise SettingsError("settings refused", [f"{key}: is empty"])
    return arguments


def run_command(command: list[str], purpose: str, *, timeout: float, data: bytes = b"") -> None:
    """Run a command for at most ``timeout`` seconds, and end it with its children after that.

    It reads ``data`` from standard input. Raises Unavailable, with ``purpose`` in front, if the command fails
    or cannot be run.
    """
    shown = f"{purpose}: `{shlex.join(command)}`"
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={name: text for name, text in os.environ.items() if name not in _PRIVATE_VARIABLES},
            start_new_session=True,
        )
    except OSError as error:
        raise Unavailable(f"{shown} cannot be run: {error.strerror}") from None
    try:
        output, _ = process.communicate(data, timeout=timeout)
    except subprocess.TimeoutExpired as expired:
        output = expired.output or b""
        # a child in a session of its own may hold the output open after the command has ended
        ended = process.poll() is not None
        _end(process)
        if not ended:
            raise Unavailable(f"{shown} did not end within {timeout:g} s") from None
    if process.returncode != 0:
        reason = " ".join(output.decode("utf-8", "replace").split())[-_MAX_REASON:]
        raise Unavailable(f"{shown} failed with status {process.returncode}: {reason}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a command and its children, and close its output."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
