"""Passes each change of an alarm to the command of the settings, once, also over restarts of the agent.

``alarms.json`` in the state directory holds the alarms that the command has taken as set. What differs from
it is passed on. A change counts as passed on when the command has ended with status 0; otherwise it is tried
again. So an alarm is never lost. One is passed on twice only if the agent is killed while the command runs.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sysreg_cli.agent.alarms import alarm, expiry
from sysreg_cli.agent.alarms.alarm import Action, Alarm
from sysreg_cli.errors import ProtocolError, Unavailable, text_of
from sysreg_cli.host import files
from sysreg_cli.host.services import run_command, split_command
from sysreg_cli.settings import Settings
from sysreg_cli.v1 import wire

log = logging.getLogger("sysreg.agent")

_FILE = "alarms.json"
_LOOK_SECONDS = 60.0
_MAX_PAUSE = 3600.0
_COMMAND_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class ActiveAlarms:
    """The alarms that the command has taken as set."""

    alarms: tuple[Alarm, ...] = ()

    @classmethod
    def load(cls, directory: Path) -> ActiveAlarms:
        """Read the file. A damaged one counts as empty: then the command gets all alarms once more."""
        path = directory / _FILE
        try:
            return wire.from_json(cls, json.loads(path.read_bytes()), str(path))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, ProtocolError) as error:
            log.warning("%s is damaged, and is not used: %s", path, error)
            return cls()


class Alarms:
    """Compares the certificates with the alarms that are set. Raises SettingsError for a damaged command."""

    def __init__(self, settings: Settings, *, command_seconds: float = _COMMAND_SECONDS) -> None:
        self._settings = settings
        self._state = settings.paths.state
        self._command_seconds = command_seconds
        command = settings.alarms.command
        self._command = split_command(command, "command in section [alarms]") if command else []
        self._active = ActiveAlarms.load(self._state) if self._command else ActiveAlarms()
        self._stopping = threading.Event()

    async def watch(self) -> None:
        """Look every minute, until cancelled. After failures of the command, look less often."""
        pause = _LOOK_SECONDS
        while self._command:
            try:
                delivered = await asyncio.to_thread(self.update, datetime.now(UTC))
            except Exception:
                log.exception("alarms: unexpected error")
                delivered = False
            pause = _LOOK_SECONDS if delivered else min(_MAX_PAUSE, 2 * pause)
            await asyncio.sleep(pause)

    def stop(self) -> None:
        """Begin no further command, because the agent stops."""
        self._stopping.set()

    def update(self, now: datetime) -> bool:
        """Pass on what has changed. Blocks. Return whether all of it was."""
        min_days = self._settings.certificate.min_days_warning
        alarms = alarm.wanted(expiry.installed(self._settings), now, min_days=min_days)
        for change, concerned in alarm.changes(self._active.alarms, alarms, now):
            if self._stopping.is_set():
                return False
            data = json.dumps(wire.to_json(change)).encode() + b"\n"
            try:
                run_command(self._command, f"alarm {change.id}", timeout=self._command_seconds, data=data)
            except Unavailable as error:
                log.warning("%s; it is tried again", error)
                return False
            self._record(change.action, concerned)
        return True

    def _record(self, action: Action, concerned: Alarm) -> None:
        others = tuple(other for other in self._active.alarms if other != concerned)
        self._active = ActiveAlarms((*others, concerned) if action is Action.SET else others)
        try:
            data = json.dumps(wire.to_json(self._active)).encode()
            files.write(self._state / _FILE, data, mode=0o600)
        except OSError as error:
            log.warning("the next agent may repeat alarms: %s", text_of(error))
