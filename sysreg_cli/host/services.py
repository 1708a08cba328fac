"""Restarting and reloading services through the configured commands (systemd, supervisor, StarlingX's sm)."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess

from sysreg_cli.errors import SettingsError, Unavailable
from sysreg_cli.host import failpoint
from sysreg_cli.settings import AgentSettings

_LONGEST_REASON = 300


class Services:
    """Runs ``restart_command`` and ``reload_command`` of section [agent]; ``{unit}`` is the service."""

    def __init__(self, settings: AgentSettings) -> None:
        self._restart = _words(settings.restart_command, "restart_command")
        self._reload = _words(settings.reload_command, "reload_command")
        self._timeout = settings.restart_timeout

    def restart(self, unit: str) -> None:
        """Restart ``unit``; returns when the command says so, which isn't yet that the service answers.

        Raises Unavailable when the command fails, can't be run, or takes longer than restart_timeout.
        """
        failpoint.reach(f"restart {unit}")
        self._run(self._restart, unit)

    def reload(self, unit: str) -> None:
        """Make ``unit`` read its files again; one that doesn't run is restarted. Raises Unavailable."""
        failpoint.reach(f"reload {unit}")
        try:
            self._run(self._reload, unit)
        except Unavailable:
            self._run(self._restart, unit)

    def _run(self, words: list[str], unit: str) -> None:
        command = [word.replace("{unit}", unit) for word in words]
        shown = shlex.join(command)
        environ = {
            name: value
            for name, value in os.environ.items()
            if name not in ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", failpoint.VARIABLE)
        }
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environ,
                start_new_session=True,
            )
        except OSError as error:
            raise Unavailable(f"{unit}: `{shown}` cannot be run: {error.strerror}") from None
        try:
            output, _ = process.communicate(timeout=self._timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise Unavailable(f"{unit}: `{shown}` did not end within {self._timeout} s") from None
        if process.returncode != 0:
            reason = " ".join(output.decode("utf-8", "replace").split())[-_LONGEST_REASON:]
            raise Unavailable(f"{unit}: `{shown}` failed with status {process.returncode}: {reason}")


def _words(command: str, key: str) -> list[str]:
    """The words of a command, cut before the unit's name is put in. Raises SettingsError."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise SettingsError("settings refused", [f"{key} in section [agent]: {error}"]) from None
    if not words:
        raise SettingsError("settings refused", [f"{key} in section [agent]: is empty"])
    return words
