"""The systemd units: read again, enabled, running, and restarted where something they read has changed."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from sysreg_cli.deploy.items import Change, Context, ask, command
from sysreg_cli.deploy.restart import restart_registry
from sysreg_cli.errors import SysregError


@dataclass(frozen=True)
class Loaded:
    """systemd knows the unit files as they are now."""

    units: tuple[str, ...]
    restarts: tuple[str, ...] = ()

    def compare(self, context: Context) -> Change | None:
        stale = [unit for unit in self.units if _show(unit, "NeedDaemonReload") == "yes"]
        unknown = [unit for unit in self.units if _show(unit, "LoadState") == "not-found"]
        return Change(f"have systemd read {', '.join(stale + unknown)}") if stale + unknown else None

    def apply(self, context: Context) -> None:
        command("systemctl", "daemon-reload")

    def remove(self, context: Context) -> str:
        return ""


@dataclass(frozen=True)
class Enabled:
    """A unit is started at boot."""

    unit: str
    restarts: tuple[str, ...] = ()

    def compare(self, context: Context) -> Change | None:
        state = _unit_file_state(self.unit)
        return None if state == "enabled" else Change(f"enable {self.unit} (was {state or 'not there'})")

    def apply(self, context: Context) -> None:
        if self.unit not in context.record.enabled:
            context.record.enabled.append(self.unit)
            context.record.save()
        if _unit_file_state(self.unit) == "masked":
            raise SysregError(
                f"{self.unit} is masked",
                next_step=f"systemctl unmask {self.unit}, then run sysreg-deploy again",
            )
        command("systemctl", "enable", "--quiet", self.unit)

    def remove(self, context: Context) -> str:
        if self.unit not in context.record.enabled:
            return ""
        if _unit_file_state(self.unit):  # else a run that was killed has disabled it, and removed its file
            command("systemctl", "disable", "--quiet", self.unit)
        context.record.enabled.remove(self.unit)
        return f"disabled {self.unit}"


@dataclass(frozen=True)
class Running:
    """A unit runs, with all that has changed; a socket unit's ``socket`` is still in its place."""

    unit: str
    socket: Path | None = None
    restarts: tuple[str, ...] = ()

    def compare(self, context: Context) -> Change | None:
        state = _show(self.unit, "ActiveState")
        if state != "active":
            return Change(f"start {self.unit} (is {state or 'not there'})")
        if self.socket and not self.socket.is_socket():
            return Change(f"restart {self.unit}, since {self.socket} is gone")
        return Change(f"restart {self.unit}") if self.unit in context.pending else None

    def apply(self, context: Context) -> None:
        command("systemctl", "reset-failed", "--quiet", self.unit)
        try:
            self._restart(context)
            _demand_active(self.unit)
        except SysregError as error:
            raise SysregError(
                f"{self.unit} does not start: {_last_words(self.unit) or error}",
                next_step=f"see journalctl -u {self.unit}, then run sysreg-deploy again",
            ) from None
        context.done(self.unit)

    def _restart(self, context: Context) -> None:
        command("systemctl", "restart", self.unit, timeout=240)

    def remove(self, context: Context) -> str:
        if _show(self.unit, "ActiveState") in ("inactive", ""):
            return ""
        command("systemctl", "stop", self.unit, timeout=240)
        return f"stopped {self.unit}"


@dataclass(frozen=True)
class RunningRegistry(Running):
    """The registry runs, with all that has changed; its restarts turn no client away."""

    port: int = 0
    #: host:port of its metrics
    debug: str = ""

    def _restart(self, context: Context) -> None:
        restart_registry(self.unit, self.port, self.debug, context.report)


@dataclass(frozen=True)
class Taking:
    """A unit of others has taken what has changed, if it runs at all."""

    unit: str
    restarts: tuple[str, ...] = ()

    def compare(self, context: Context) -> Change | None:
        return Change(f"restart {self.unit}") if self.unit in context.pending else None

    def apply(self, context: Context) -> None:
        command("systemctl", "try-restart", self.unit, timeout=240)
        context.done(self.unit)

    def remove(self, context: Context) -> str:
        return ""


def systemd_version() -> int:
    """The number in ``systemctl --version``. Raises SysregError."""
    return int(ask("systemctl", "--version").split()[1])


def _unit_file_state(unit: str) -> str:
    """What the links on the disk say; systemd's memory of them is as old as its last reload."""
    words = ["systemctl", "is-enabled", unit]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=90)
    except subprocess.TimeoutExpired:
        raise SysregError(f"{' '.join(words)}: not done within 90 s") from None
    return done.stdout.strip()


def _show(unit: str, name: str) -> str:
    return ask("systemctl", "show", "--value", "--property", name, unit).strip()


def _demand_active(unit: str) -> None:
    # a unit of Type=simple counts as started before it has failed
    if (state := _show(unit, "ActiveState")) != "active":
        raise SysregError(f"it is {state}")


def _last_words(unit: str) -> str:
    try:
        lines = ask("journalctl", "--no-pager", "--lines=20", "--output=cat", "--unit", unit).splitlines()
    except SysregError:
        return ""
    # systemd's own lines say that it failed; the service's last one says why
    own = [line for line in lines if line.strip() and not line.startswith((unit, "Start", "Fail", "Stop"))]
    return own[-1].strip() if own else ""
