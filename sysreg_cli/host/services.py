"""Restarts and reloads services through the configured commands (systemd, supervisor, StarlingX's sm)."""

from __future__ import annotations

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
        self._restart = _split(settings.restart_command, "restart_command")
        self._reload = _split(settings.reload_command, "reload_command")
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

    def _run(self, template: list[str], unit: str) -> None:
        command = [argument.replace("{unit}", unit) for argument in template]
        shown = shlex.join(command)
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={name: text for name, text in os.environ.items() if name not in _PRIVATE_VARIABLES},
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
            reason = " ".join(output.decode("utf-8", "replace").split())[-_MAX_REASON:]
            raise Unavailable(f"{unit}: `{shown}` failed with status {process.returncode}: {reason}")


def _split(command: str, key: str) -> list[str]:
    """Split a command before the unit's name is put in. Raises SettingsError."""
    try:
        arguments = shlex.split(command)
    except ValueError as error:
        raise SettingsError("settings refused", [f"{key} in section [agent]: {error}"]) from None
    if not arguments:
        raise SettingsError("settings refused", [f"{key} in section [agent]: is empty"])
    return arguments
