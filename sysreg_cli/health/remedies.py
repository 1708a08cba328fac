"""Commands that mend something."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sysreg_cli.health.results import Remedy
from sysreg_cli.host.processes import Process
from sysreg_cli.settings import Settings

#: sysreg-deploy compares the whole controller with the settings, and repairs what differs
DEPLOY = Remedy("repair it", "sysreg-deploy")
INSTALL = Remedy("install another", "system certificate-install -m docker_registry FILE")
COLLECT = Remedy(
    "see what takes it with system registry-usage --by image, delete what is not needed, and free the space",
    "system registry-garbage-collect",
)
SET_CLOCK = Remedy("set the clocks of both machines, and let NTP keep them right", "timedatectl set-ntp true")

AGENT_UNIT = "sysreg-agent.service"
ETCD_UNIT = "sysreg-etcd.service"


def restart_command(settings: Settings, *units: str) -> str:
    """Return the command that restarts services: the setting ``restart_command``."""
    return _commands(settings.agent.restart_command, units)


def take_port(settings: Settings, unit: str, others: Sequence[Process]) -> Remedy:
    """Return the remedy for a service whose port other processes have."""
    if not _is_systemd(settings):  # the unit of any process may be that of the service manager
        return Remedy(f"end what does not belong there, and restart {unit}", restart_command(settings, unit))
    if any(it.pid == 1 for it in others):
        return Remedy(f"stop the socket unit that has it, and restart {unit}", "systemctl list-sockets")
    if any(it.name == "docker-proxy" for it in others):
        return Remedy(f"stop the container that publishes it, and restart {unit}", "docker ps")
    units = sorted({it.unit for it in others if it.unit})
    pids = [str(it.pid) for it in others if not it.unit]
    ends = [f"systemctl stop {' '.join(units)}"] if units else []
    ends += [f"kill {' '.join(pids)}"] if pids else []
    command = " && ".join([*ends, restart_command(settings, unit)])
    return Remedy(f"end that, and restart {unit}", command)


def restart(settings: Settings, *units: str) -> Remedy:
    """Return the remedy for services that do not answer."""
    see = f"see journalctl -u {' -u '.join(units)}, and restart" if _is_systemd(settings) else "restart"
    return Remedy(f"{see} {'it' if len(units) == 1 else 'them'}", restart_command(settings, *units))


def reload_command(settings: Settings, *units: str) -> str:
    """Return the command that has services read their files again: the setting ``reload_command``."""
    return _commands(settings.agent.reload_command, units)


def see_journal(settings: Settings, unit: str) -> Remedy:
    """Return the remedy for what only the messages of a service can explain."""
    return Remedy("see why in its messages", f"journalctl -u {unit}" if _is_systemd(settings) else "")


def remount(path: Path) -> Remedy:
    """Return the remedy for a file system that is mounted read-only."""
    return Remedy(
        "the kernel does this after an error of the disk: see dmesg, then mount it writable",
        f"mount -o remount,rw {_mount_point(path)}",
    )


def make_room(path: Path) -> Remedy:
    """Return the remedy for a full file system that has no images."""
    command = f"du -xh --max-depth=3 {_mount_point(path)} | sort -h | tail"
    return Remedy("remove what is not needed there; the largest directories", command)


def _mount_point(path: Path) -> Path:
    return next(directory for directory in (path, *path.parents) if directory.is_mount())


def _is_systemd(settings: Settings) -> bool:
    return settings.agent.restart_command.split()[:1] == ["systemctl"]


def _commands(template: str, units: tuple[str, ...]) -> str:
    return " && ".join(template.replace("{unit}", unit) for unit in units)
