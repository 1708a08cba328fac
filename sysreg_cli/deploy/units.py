"""systemd units: known to systemd, enabled, running, and restarted when what they read has changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sysreg_cli.deploy.machine import CommandFailed, Programs
from sysreg_cli.deploy.resource import Change, Context, Resource
from sysreg_cli.deploy.restart import Listener
from sysreg_cli.errors import SysregError

#: runs etcd, if the section [cluster] says so
ETCD = "sysreg-etcd.service"
#: stands among the units to be restarted for systemd itself, which has to read unit files
RELOAD = "daemon-reload"
_TIMEOUT = 240.0


@dataclass(frozen=True)
class DaemonReload(Resource):
    """systemd has read the unit files as they are now.

    A file of a unit names RELOAD among its ``restarts``: systemd itself does not notice the first drop-in in
    a new directory (docs/behaviour.rst, "systemd and the kernel").
    """

    units: tuple[str, ...]

    def compare(self, context: Context) -> Change | None:
        if RELOAD in context.pending:
            return Change("have systemd read its unit files", self._reload)
        states = (("NeedDaemonReload", "yes"), ("LoadState", "not-found"))
        units = [
            unit
            for name, value in states
            for unit in self.units
            if unit_property(context.programs, unit, name) == value
        ]
        return Change(f"have systemd read {', '.join(units)}", self._reload) if units else None

    def _reload(self, context: Context) -> None:
        context.programs.change("systemctl", "daemon-reload")
        context.restarted(RELOAD)


@dataclass(frozen=True)
class EnabledUnit(Resource):
    """A unit that starts at boot."""

    unit: str

    def compare(self, context: Context) -> Change | None:
        state = unit_file_state(context.programs, self.unit)
        if state == "enabled":
            return None
        return Change(f"enable {self.unit} (was {state or 'not there'})", self._enable)

    def _enable(self, context: Context) -> None:
        if self.unit not in context.record.enabled:
            context.record.enabled.append(self.unit)
            context.record.save()
        context.programs.change("systemctl", "enable", "--quiet", self.unit)

    def remove(self, context: Context) -> str:
        if self.unit not in context.record.enabled:
            return ""
        # A run that was killed may have removed the unit's file, or not have written it yet.
        if unit_file_state(context.programs, self.unit):
            context.programs.change("systemctl", "disable", "--quiet", self.unit)
        context.record.enabled.remove(self.unit)
        return f"disabled {self.unit}"


@dataclass(frozen=True)
class RunningUnit(Resource):
    """A unit that runs, with all changes applied.

    The ``listener`` of a daemon restarts it without refusing clients. The ``socket`` of a socket unit has to
    exist.
    """

    unit: str
    listener: Listener | None = None
    socket: Path | None = None

    def compare(self, context: Context) -> Change | None:
        state = unit_property(context.programs, self.unit, "ActiveState")
        if state != "active":
            return Change(f"start {self.unit} (is {state or 'not there'})", self._start)
        if self.socket and not self.socket.is_socket():
            return Change(f"restart {self.unit}, since {self.socket} is gone", self._start)
        return Change(f"restart {self.unit}", self._start) if self.unit in context.pending else None

    def _start(self, context: Context) -> None:
        programs = context.programs
        programs.change("systemctl", "reset-failed", "--quiet", self.unit)
        try:
            if self.listener:
                self.listener.restart(context)
            else:
                programs.change("systemctl", "restart", self.unit, timeout=_TIMEOUT)
            problem = ""
        except CommandFailed as error:
            problem = str(error)
        # A unit of Type=simple counts as started before it fails.
        state = unit_property(programs, self.unit, "ActiveState")
        if problem or state != "active":
            reason = _last_output(programs, self.unit) or problem or f"it is {state}"
            raise SysregError(
                f"{self.unit} does not start: {reason}",
                next_step=f"see journalctl -u {self.unit}, then run sysreg-deploy again",
            )
        context.restarted(self.unit)

    def remove(self, context: Context) -> str:
        if unit_property(context.programs, self.unit, "ActiveState") in ("inactive", ""):
            return ""
        context.programs.change("systemctl", "stop", self.unit, timeout=_TIMEOUT)
        return f"stopped {self.unit}"


@dataclass(frozen=True)
class TryRestart(Resource):
    """A unit of another package that sees the changes if it runs. It isn't started."""

    unit: str

    def compare(self, context: Context) -> Change | None:
        return Change(f"restart {self.unit}", self._restart) if self.unit in context.pending else None

    def _restart(self, context: Context) -> None:
        context.programs.change("systemctl", "try-restart", self.unit, timeout=_TIMEOUT)
        context.restarted(self.unit)


@dataclass(frozen=True)
class OptionalUnit(TryRestart):
    """A unit that the operator may enable. A run restarts it if it runs, and a removal disables it."""

    def remove(self, context: Context) -> str:
        enabled = unit_file_state(context.programs, self.unit) == "enabled"
        if not enabled and unit_property(context.programs, self.unit, "ActiveState") in ("inactive", ""):
            return ""
        context.programs.change("systemctl", "disable", "--now", "--quiet", self.unit, timeout=_TIMEOUT)
        return f"disabled {self.unit}"


@dataclass(frozen=True)
class WithdrawnUnit(Resource):
    """A unit that an earlier run deployed, and that the settings do not ask for any more. Its data stays."""

    unit: str
    path: Path

    def compare(self, context: Context) -> Change | None:
        if not context.record.owns(self.path):
            return None
        return Change(f"stop {self.unit}, which the settings do not ask for any more", self._withdraw)

    def _withdraw(self, context: Context) -> None:
        context.programs.change("systemctl", "disable", "--now", "--quiet", self.unit, timeout=_TIMEOUT)
        if self.unit in context.record.enabled:
            context.record.enabled.remove(self.unit)
        context.record.put_back(self.path)
        context.record.save()
        context.programs.change("systemctl", "daemon-reload")

    def remove(self, context: Context) -> str:
        if not context.record.owns(self.path):
            return ""
        self._withdraw(context)
        return f"stopped {self.unit}"


def unit_file_state(programs: Programs, unit: str) -> str:
    """Whether the links on the disk start the unit at boot. Empty if there is no such unit.

    systemd's own memory of that is as old as its last reload.
    """
    state = programs.query("systemctl", "is-enabled", unit, check=False).strip()
    return "" if state == "not-found" else state  # older versions of systemd print nothing


def unit_property(programs: Programs, unit: str, name: str) -> str:
    return programs.query("systemctl", "show", "--value", "--property", name, unit).strip()


def _last_output(programs: Programs, unit: str) -> str:
    """The last line that the unit's service wrote. systemd's own lines say only that it failed."""
    try:
        journal = programs.query("journalctl", "--no-pager", "--lines=20", "--output=cat", "--unit", unit)
    except CommandFailed:
        return ""
    lines = [line for line in journal.splitlines() if line.strip()]
    own = [line for line in lines if not line.startswith((unit, "Start", "Fail", "Stop"))]
    return own[-1].strip() if own else ""
