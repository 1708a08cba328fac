"""What a controller consists of: a function of its settings and of a few facts about the machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from sysreg_cli.deploy import templates
from sysreg_cli.deploy.certificate import ReplacedByAgent, ServerCertificate
from sysreg_cli.deploy.client_trust import ClientTrust
from sysreg_cli.deploy.configs import (
    CONTAINERD_CONFIG,
    ETCD_ENVIRONMENT,
    containerd_lines,
    registry_config,
    registry_secret,
)
from sysreg_cli.deploy.daemons import AGENT, TOKEN_SERVER, AppliedSettings
from sysreg_cli.deploy.file import File, Link, MarkedLines, Retired, Withdrawn
from sysreg_cli.deploy.host_facts import HOSTS, REGISTRY_USER, HostFacts
from sysreg_cli.deploy.machine import Attributes
from sysreg_cli.deploy.resource import Resource
from sysreg_cli.deploy.restart import Listener
from sysreg_cli.deploy.storage import StorageRights
from sysreg_cli.deploy.system_files import Accounts, MadeDirectories, Tmpfiles
from sysreg_cli.deploy.token_keys import SigningPair, trusted_certificates
from sysreg_cli.deploy.units import (
    ETCD,
    RELOAD,
    DaemonReload,
    EnabledUnit,
    OptionalUnit,
    RunningUnit,
    TryRestart,
    WithdrawnUnit,
)
from sysreg_cli.pki.names import as_address
from sysreg_cli.settings import DEFAULT_PATH, Settings

AGENT_SOCKET = "sysreg-agent.socket"
CONTAINERD = "containerd.service"
#: prunes images every day, if the operator enables the timer
PRUNE, PRUNE_TIMER = "sysreg-prune.service", "sysreg-prune.timer"
PROGRAMS = ("system", "sysreg-deploy")
MAN_PAGES = (
    *("system.1", "sysreg.conf.5", "sysreg-agent.8", "sysreg-deploy.8"),
    *("sysreg-host.8", "sysreg-token-server.8"),
)
COMPLETIONS = (Path("/etc/bash_completion.d/system"), Path("/etc/bash_completion.d/system.sysreg"))
REGISTRY_SECRET = Path("/etc/sysreg/registry.env")
#: of a worker alone
WORKER_UNIT = Path("/etc/systemd/system/sysreg-host.service")
_ETCD_UNIT = Path("/etc/systemd/system") / ETCD
_AGENT_DROP_IN = Path("/etc/systemd/system/sysreg-agent.service.d/cluster.conf")
_AGENT_RIGHTS = """\
# The agent of a cluster uses nftables: new connections to the registry wait while it restarts for a new
# certificate. Without that, pulls on workers would fail: docker and containerd give up at the first refused
# connection, and the registry can neither read its certificate again nor take its socket from systemd.
[Service]
CapabilityBoundingSet=CAP_NET_ADMIN
RestrictAddressFamilies=AF_NETLINK
"""
_SYSUSERS = "/etc/sysusers.d/sysreg.conf"
_TMPFILES = "/etc/tmpfiles.d/sysreg.conf"


@dataclass(frozen=True)
class Deployment:
    """Everything that sysreg-deploy provides. Each resource comes after those that it needs."""

    #: the commented sample of the settings, which is written first and removed last
    sample: File
    #: what is on the disk
    resources: tuple[Resource, ...]
    #: the state of systemd and of its units
    services: tuple[Resource, ...]

    @property
    def on_disk(self) -> tuple[Resource, ...]:
        return (self.sample, *self.resources)

    @property
    def all(self) -> tuple[Resource, ...]:
        return (*self.on_disk, *self.services)

    @classmethod
    def build(cls, settings: Settings, facts: HostFacts) -> Deployment:
        """Build it. Raises SysregError if a file of ``etc/`` is missing or containerd can't be configured."""
        rendered = templates.render(template_values(settings, facts))
        del rendered[str(WORKER_UNIT)]
        sample = File(DEFAULT_PATH, rendered.pop(str(DEFAULT_PATH)), seed=True, is_data=True)
        sysusers, tmpfiles = (File(Path(name), rendered.pop(name)) for name in (_SYSUSERS, _TMPFILES))
        etcd_unit = File(_ETCD_UNIT, rendered.pop(str(_ETCD_UNIT)), restarts=(ETCD, RELOAD))
        daemons = (TOKEN_SERVER, AGENT)
        directories = Tmpfiles(tmpfiles, mounted_by=tuple(daemon.unit for daemon in daemons))
        resources = (
            *_etcd_on_disk(settings, etcd_unit),
            _agent_of_cluster(settings),
            *(sysusers, Accounts(sysusers, is_data=True), tmpfiles, directories),
            *_files(settings, facts, rendered),
            *_keys(settings),
            StorageRights(settings.registry.storage, REGISTRY_USER),
            MadeDirectories(frozenset(entry.path for entry in directories.entries)),
            *(AppliedSettings(daemon.unit, daemon.digest(settings)) for daemon in daemons),
        )
        return cls(sample, resources, tuple(_services(settings, facts)))


def template_values(settings: Settings, facts: HostFacts) -> dict[str, str]:
    """The values for the placeholders in the files of ``etc/``."""
    # systemd before 254 cannot lengthen the pause between restarts, so it is always 3 s.
    backoff = "RestartSec=3" if facts.systemd < 254 else "RestartSec=1\nRestartSteps=5\nRestartMaxDelaySec=30"
    return {
        "backoff": backoff,
        "bindir": str(facts.programs),
        "cluster": str(settings.cluster.directory),
        "containerd_trust": str(settings.paths.containerd_trust),
        "docker_trust": str(settings.paths.docker_trust),
        "etcd_environment": str(ETCD_ENVIRONMENT),
        "group": settings.agent.group,
        "registry_config": str(settings.registry.config),
        "registry_environment": str(REGISTRY_SECRET),
        "registry_unit": settings.registry.unit,
        "socket": str(settings.agent.socket),
        "socket_directory": str(settings.agent.socket.parent),
        "state": str(settings.paths.state),
        "storage": str(settings.registry.storage),
        "system_trust": str(settings.paths.system_trust),
        "tls": str(settings.certificate.directory),
    }


def _files(settings: Settings, facts: HostFacts, rendered: dict[str, bytes]) -> Iterator[Resource]:
    """The files of ``etc/``, links to the programs, and lines in files of others."""
    unit = settings.registry.unit
    for path in map(Path, rendered):
        yield File(path, rendered[str(path)], restarts=_restarts(path, unit))
    links = {Path("/usr/local/bin") / name: facts.programs / name for name in PROGRAMS}
    for page in (Path("man") / f"man{name[-1]}" / name for name in MAN_PAGES):
        links[Path("/usr/local/share") / page] = facts.programs.parent / "share" / page
    if facts.is_packaged:
        yield from map(Retired, (*links, *COMPLETIONS))
    else:
        yield from (Link(path, str(target)) for path, target in links.items())
    if facts.address:
        names = [name for name in settings.registry.host_names if as_address(name) is None]
        yield MarkedLines(HOSTS, f"{facts.address} {' '.join(names)}\n")
    if facts.containerd is not None and (lines := containerd_lines(facts.containerd, settings)):
        yield MarkedLines(CONTAINERD_CONFIG, lines, restarts=(CONTAINERD,))
    config = yaml.safe_dump(registry_config(settings), sort_keys=False)
    text = f"# Written by sysreg-deploy from {DEFAULT_PATH}.\n{config}"
    yield File(settings.registry.config, text.encode(), restarts=(unit,))


def _keys(settings: Settings) -> Iterator[Resource]:
    """The keys and certificates, and the trust in them."""
    registry = settings.registry.unit
    yield SigningPair(settings, restarts=(TOKEN_SERVER.unit, AGENT.unit), is_data=True)
    trusted = partial(trusted_certificates, settings)
    yield File(settings.token_server.trust_bundle, trusted, restarts=(registry,), is_data=True)
    secret = partial(registry_secret, REGISTRY_SECRET)
    yield File(REGISTRY_SECRET, secret, Attributes(0o600), restarts=(registry,), is_data=True)
    yield ServerCertificate(settings, restarts=(registry, TOKEN_SERVER.unit, AGENT.unit), is_data=True)
    yield ClientTrust(settings, mounted_by=(AGENT.unit,))


def _agent_of_cluster(settings: Settings) -> Resource:
    """The right of the agent to let connections wait, only in a cluster."""
    if settings.cluster.endpoints:
        return File(_AGENT_DROP_IN, _AGENT_RIGHTS.encode(), restarts=(AGENT.unit, RELOAD))
    return Withdrawn(_AGENT_DROP_IN, restarts=(AGENT.unit, RELOAD))


def _etcd_on_disk(settings: Settings, unit: File) -> Iterator[Resource]:
    if settings.cluster.listen:
        # a controller that is alone imports nothing of a cluster
        from sysreg_cli.deploy import etcd

        yield from etcd.disk_resources(settings.cluster, unit)


def _etcd_services(settings: Settings) -> Iterator[Resource]:
    if settings.cluster.listen:
        from sysreg_cli.deploy import etcd

        yield from etcd.service_resources(settings.cluster)
    else:
        yield WithdrawnUnit(ETCD, _ETCD_UNIT)


def _services(settings: Settings, facts: HostFacts) -> Iterator[Resource]:
    registry = settings.registry
    units = (registry.unit, TOKEN_SERVER.unit, AGENT_SOCKET, AGENT.unit)
    etcd = (ETCD,) if settings.cluster.listen else ()
    yield DaemonReload((*units, *etcd, PRUNE, PRUNE_TIMER))
    yield from map(EnabledUnit, units)
    # the agent uses it at its start
    yield from _etcd_services(settings)
    yield RunningUnit(registry.unit, Listener(registry.unit, registry.port, registry.metrics))
    yield RunningUnit(TOKEN_SERVER.unit, Listener(TOKEN_SERVER.unit, settings.token_server.port))
    yield RunningUnit(AGENT_SOCKET, socket=settings.agent.socket)
    yield RunningUnit(AGENT.unit)
    yield ReplacedByAgent(settings, AGENT.unit)
    yield OptionalUnit(PRUNE_TIMER)
    if facts.containerd is not None:
        yield TryRestart(CONTAINERD)


def _restarts(path: Path, registry_unit: str) -> tuple[str, ...]:
    """The unit that a file of ``etc/`` belongs to, if it does and runs on after a change of that file."""
    if path.parent.name == f"{registry_unit}.d":
        return (registry_unit, RELOAD)
    if path.suffix not in (".service", ".socket", ".timer"):
        return ()
    # the service of the timer is started anew each time
    return (RELOAD,) if path.name == PRUNE else (path.name, RELOAD)
