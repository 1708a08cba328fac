"""What a worker consists of: the daemon sysreg-host, its login to etcd, and the directories that it writes.

It has no registry, no token server and no agent. Its settings name the user of etcd that it is.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sysreg_cli.cluster.membership import CredentialFiles
from sysreg_cli.deploy import templates
from sysreg_cli.deploy.client_trust import clear, remove_authorities
from sysreg_cli.deploy.configs import CONTAINERD_CONFIG, containerd_lines
from sysreg_cli.deploy.daemons import HOST, AppliedSettings
from sysreg_cli.deploy.deployment import CONTAINERD, WORKER_UNIT, Deployment, template_values
from sysreg_cli.deploy.file import File, MarkedLines, split_marked
from sysreg_cli.deploy.host_facts import HOSTS, HostFacts
from sysreg_cli.deploy.machine import PUBLIC, Attributes
from sysreg_cli.deploy.resource import Change, Context, Resource, attributes_change
from sysreg_cli.deploy.units import RELOAD, DaemonReload, EnabledUnit, RunningUnit, TryRestart
from sysreg_cli.errors import SysregError
from sysreg_cli.pki.names import as_address
from sysreg_cli.settings import DEFAULT_PATH, Settings

SECRET = Attributes(0o600)


def build(settings: Settings, facts: HostFacts) -> Deployment:
    """Return what a worker consists of. Raises SysregError if containerd can't be configured."""
    rendered = templates.render(template_values(settings, facts))
    sample = File(DEFAULT_PATH, settings_text(settings).encode(), seed=True, is_data=True)
    unit = File(WORKER_UNIT, rendered[str(WORKER_UNIT)], restarts=(HOST.unit, RELOAD))
    resources = (
        Credential(CredentialFiles(settings.cluster.directory), is_data=True),
        TrustDirectories(settings, mounted_by=(HOST.unit,)),
        unit,
        *_lines(settings, facts),
        AppliedSettings(HOST.unit, HOST.digest(settings)),
    )
    return Deployment(sample, resources, tuple(_services(facts)))


def settings_text(settings: Settings) -> str:
    """Return the settings file of a worker."""
    cluster, registry = settings.cluster, settings.registry
    return (
        "# Written by sysreg-deploy --join. sysreg.conf(5) explains the settings.\n"
        f"[registry]\nhost_names = {' '.join(registry.host_names)}\nport = {registry.port}\n\n"
        f"[cluster]\nendpoints = {' '.join(map(str, cluster.endpoints))}\nhost = {cluster.host}\n"
        f"user = {cluster.user}\n"
    )


def _lines(settings: Settings, facts: HostFacts) -> Iterator[Resource]:
    """The lines in files of others: the address of the registry, and where containerd finds certs.d."""
    registry = settings.registry
    address = next((name for name in registry.host_names if as_address(name)), "") or _written_address()
    if address:
        names = [name for name in registry.host_names if as_address(name) is None]
        yield MarkedLines(HOSTS, f"{address} {' '.join(names)}\n")
    elif not _resolves(registry.host_names[0], registry.port):
        raise SysregError(
            f"{registry.host_names[0]} has no address on this host",
            next_step=f"add a line with the controller's address to {HOSTS}, then run sysreg-deploy again",
        )
    if facts.containerd is not None and (lines := containerd_lines(facts.containerd, settings)):
        yield MarkedLines(CONTAINERD_CONFIG, lines, restarts=(CONTAINERD,))


def _written_address() -> str:
    """Return the address that an earlier run wrote to /etc/hosts."""
    text = HOSTS.read_text(errors="replace") if HOSTS.exists() else ""
    written = (split_marked(text)[1] or "").split(maxsplit=1)
    return written[0] if written and as_address(written[0]) else ""


def _resolves(name: str, port: int) -> bool:
    try:
        return bool(socket.getaddrinfo(name, port))
    except OSError:
        return False


def _services(facts: HostFacts) -> Iterator[Resource]:
    yield DaemonReload((HOST.unit,))
    yield EnabledUnit(HOST.unit)
    yield RunningUnit(HOST.unit)
    if facts.containerd is not None:
        yield TryRestart(CONTAINERD)


@dataclass(frozen=True)
class Credential(Resource):
    """What the worker logs in to etcd with. Only ``--join`` makes it."""

    files: CredentialFiles

    @property
    def _attributes(self) -> dict[Path, Attributes]:
        tls = self.files.tls
        return {
            **dict.fromkeys((tls.ca, tls.certificate), PUBLIC),
            **dict.fromkeys((tls.key, self.files.password), SECRET),
        }

    def compare(self, context: Context) -> Change | None:
        for path in self._attributes:
            if not path.exists():
                raise SysregError(
                    f"{path} is missing, with which this host logs in to the cluster",
                    next_step="delete the host on the controller (system registry-host-delete), add it again,"
                    " then here: sysreg-deploy --remove and sysreg-deploy --join",
                )
        return attributes_change(self._attributes)

    def remove(self, context: Context) -> str:
        lines = [context.record.put_back(path) for path in self._attributes if context.record.owns(path)]
        return "; ".join(filter(None, lines))


@dataclass(frozen=True)
class TrustDirectories(Resource):
    """The directories in which sysreg-host writes whom docker, containerd and the system trust."""

    settings: Settings
    #: daemons that mount them, and see one that was created anew only after a restart
    mounted_by: tuple[str, ...] = ()

    @property
    def _roots(self) -> tuple[Path, Path]:
        return self.settings.paths.docker_trust, self.settings.paths.containerd_trust

    @property
    def _all(self) -> tuple[Path, ...]:
        return (*self._roots, self.settings.paths.system_trust)

    def compare(self, context: Context) -> Change | None:
        missing = [root for root in self._all if not root.is_dir()]
        if not missing:
            return None
        line = f"create {' and '.join(map(str, missing))}"
        return Change(line, self._create, restarts=self.mounted_by)

    def _create(self, context: Context) -> None:
        for root in self._all:
            context.record.make_directory(root)

    def remove(self, context: Context) -> str:
        directories = [root / address for root in self._roots for address in self.settings.registry.addresses]
        removed = [path for directory in directories for path in clear(directory)]
        removed += remove_authorities(context, self.settings)
        for directory in directories:
            if directory.is_dir() and not any(directory.iterdir()):
                directory.rmdir()
        return f"removed {', '.join(map(str, removed))}" if removed else ""
