"""What sysreg-deploy has to know about the machine, and what it refuses to deploy on."""

from __future__ import annotations

import contextlib
import pwd
import socket
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from sysreg_cli.deploy.configs import CONTAINERD_CONFIG
from sysreg_cli.deploy.daemons import PACKAGE
from sysreg_cli.deploy.file import split_marked
from sysreg_cli.deploy.machine import Programs
from sysreg_cli.errors import SettingsError, SysregError
from sysreg_cli.pki.names import as_address
from sysreg_cli.settings import DEFAULT_PATH, DirectorySource, Settings

HOSTS = Path("/etc/hosts")
REGISTRY_USER = "docker-registry"
#: what ProtectHome= and PrivateTmp= in the units hide from the daemons
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class HostFacts:
    """Facts about the machine on which a controller's resources depend."""

    #: the directory of the console scripts
    programs: Path
    #: the address that /etc/hosts gives the registry's names; empty if they resolve without that
    address: str
    #: the version of systemd
    systemd: int
    #: text of containerd's configuration; None without containerd
    containerd: str | None

    @property
    def is_packaged(self) -> bool:
        """Whether the programs come with the Debian package, which brings links, man pages and completion."""
        return self.programs.is_relative_to("/usr") and not self.programs.is_relative_to("/usr/local")

    @classmethod
    def read(cls, settings: Settings, programs: Programs) -> HostFacts:
        """Look at this machine. Raises SysregError."""
        containerd = CONTAINERD_CONFIG
        return cls(
            programs=Path(sys.executable).parent,
            address=_address(settings),
            systemd=int(programs.query("systemctl", "--version").split()[1]),
            containerd=containerd.read_text(errors="replace") if containerd.exists() else None,
        )


def require_settings(settings: Settings) -> None:
    """Raise SettingsError if the settings name other files or units than those that are deployed.

    Only an embedded controller may have others.
    """
    defaults = Settings()
    problems = _hidden_places(settings)
    problems += [
        f"{DEFAULT_PATH}: {key} in section [{section}] must be {default}: sysreg-deploy supports no other"
        for section, key, value, default in (
            ("registry", "config", settings.registry.config, defaults.registry.config),
            ("registry", "unit", settings.registry.unit, defaults.registry.unit),
            ("token_server", "unit", settings.token_server.unit, defaults.token_server.unit),
        )
        if value != default
    ]
    if problems:
        raise SettingsError("settings refused", problems)


def _hidden_places(settings: Settings) -> list[str]:
    """Return the problems of a source that sysreg-agent.service hides from the agent."""
    source = settings.certificate.source
    if source is None:
        return []
    key, place = "kubeconfig", settings.certificate.kubeconfig
    if isinstance(source, DirectorySource):
        key, place = "source", source.directory
    return [
        f"{DEFAULT_PATH}: {key} in section [certificate] is below {hidden}, which the agent does not see"
        for hidden in HIDDEN
        if place.is_relative_to(hidden)
    ]


def require_machine() -> None:
    """Raise SysregError if the registry's package is missing, or the daemons can't run from where this is."""
    require_registry(REGISTRY_USER)
    require_programs()


def require_programs() -> None:
    """Raise SysregError if the daemons can't run from where this is.

    They can't if others than root can change it, or if their sandbox hides it.
    """
    for directory in (Path(sys.executable).parent, PACKAGE):
        require_visible(directory)
        require_protected(directory)


def require_registry(user: str) -> None:
    """Raise SysregError if the registry's package, which makes ``user``, is not installed."""
    try:
        pwd.getpwnam(user)
    except KeyError:
        raise SysregError(
            f"docker-registry is not installed: there is no user {user}",
            next_step="install it (apt-get install docker-registry; of Debian packages sysreg-controller)"
            ", then run sysreg-deploy again; a worker needs none: sysreg-deploy --join",
        ) from None


def require_visible(directory: Path) -> None:
    """Raise SysregError if the sandbox of the daemons hides ``directory`` from them."""
    directory = directory.resolve()
    for hidden in HIDDEN:
        if directory.is_relative_to(hidden):
            raise SysregError(
                f"the daemons could not run from {directory}: their sandbox shows nothing of {hidden}",
                next_step="install sysreg-cli elsewhere (python3 -m venv /opt/sysreg)",
            )


def require_protected(directory: Path, user: int = 0) -> None:
    """Raise SysregError if others than ``user`` can write into ``directory``, or put another in its place.

    The agent runs code from there as root.
    """
    directory = directory.resolve()
    for path in (directory, *directory.parents):
        status = path.stat()
        writable = status.st_mode & _WRITABLE_BY_OTHERS
        # In a parent with the sticky bit, such as /tmp, others cannot rename what belongs to root.
        if status.st_uid not in {0, user} or (
            writable and (path == directory or not status.st_mode & stat.S_ISVTX)
        ):
            raise SysregError(
                f"others than root can change {path}, but the agent would run code from {directory} as root",
                next_step="install sysreg-cli into a directory of root's (python3 -m venv /opt/sysreg)",
            )


def _address(settings: Settings) -> str:
    """The address for the line in /etc/hosts, empty if the names resolve without one.

    It is a configured address, else the one that an earlier run wrote, else this machine's.
    """
    for name in settings.registry.host_names:
        if as_address(name):
            return name
    text = HOSTS.read_text(errors="replace") if HOSTS.exists() else ""
    written = (split_marked(text)[1] or "").split(maxsplit=1)
    if written and as_address(written[0]):  # not if somebody edited it into something else
        return written[0]
    try:
        socket.getaddrinfo(settings.registry.host_names[0], settings.registry.port)
    except OSError:
        return _own_address()
    return ""


def _own_address() -> str:
    """The address at which others reach this machine: the source address of its default route."""
    for family, elsewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((elsewhere, 9))  # sends nothing
            return str(probe.getsockname()[0])
    return "127.0.0.1"
