"""What a controller has, in the order in which it is made: a function of its settings and a few facts."""

from __future__ import annotations

import pwd
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from sysreg_cli.deploy.accounts import Accounts
from sysreg_cli.deploy.certificate import ServerCertificate, TlsDirectory, Trust
from sysreg_cli.deploy.items import Block, File, Item, Link
from sysreg_cli.deploy.keys import RegistryEnvironment, SigningPair, TokenTrust, trust_bundle
from sysreg_cli.deploy.places import Directories, places
from sysreg_cli.deploy.taken import Taken
from sysreg_cli.deploy.units import Enabled, Loaded, Running, RunningRegistry, Taking
from sysreg_cli.errors import SettingsError, SysregError
from sysreg_cli.pki.names import as_address
from sysreg_cli.settings import DEFAULT_PATH, Settings

AGENT = "sysreg-agent.service"
SOCKET = "sysreg-agent.socket"
PROGRAMS = ("system", "sysreg-deploy")
MAN_PAGES = ("system.1", "sysreg.conf.5", "sysreg-agent.8", "sysreg-deploy.8", "sysreg-token-server.8")
CONTAINERD_CONFIG = Path("/etc/containerd/config.toml")
ENVIRONMENT = Path("/etc/sysreg/registry.env")
REGISTRY_USER = "docker-registry"
_CONTAINERD_TABLE = {
    2: ("io.containerd.grpc.v1.cri", "registry"),
    3: ("io.containerd.cri.v1.images", "registry"),
}


@dataclass(frozen=True)
class Facts:
    """What the plan has to know of the machine."""

    #: where the console scripts are
    programs: Path
    #: the address that our names are to resolve to; empty where they resolve without us
    address: str
    systemd: int
    #: text of containerd's configuration; None if containerd isn't there
    containerd: str | None
    #: digest of what the daemons read at their start
    taken: str


def demand_supported(settings: Settings) -> None:
    """Refuse what only an embedded controller can have: Debian's unit and ours are the ones deployed.

    Raises SettingsError.
    """
    shipped = Settings()
    problems = [
        f"{DEFAULT_PATH}: {key} in section [{section}] must be {default}: nothing else is deployed"
        for section, key, value, default in (
            ("registry", "config", settings.registry.config, shipped.registry.config),
            ("registry", "unit", settings.registry.unit, shipped.registry.unit),
            ("token_server", "unit", settings.token_server.unit, shipped.token_server.unit),
        )
        if value != default
    ]
    if problems:
        raise SettingsError("settings refused", problems)


def demand_registry(user: str = REGISTRY_USER) -> None:
    """Refuse a machine without the registry's package, whose ``user`` the storage is to belong to.

    Raises SysregError.
    """
    try:
        pwd.getpwnam(user)
    except KeyError:
        raise SysregError(
            f"docker-registry is not installed: there is no user {user}",
            next_step="install it (apt-get install docker-registry), then run sysreg-deploy again",
        ) from None


def template_values(settings: Settings, facts: Facts) -> dict[str, str]:
    """What the files of ``etc/`` may ask for."""
    # Before 254 every pause is the same: short enough for a crash, long enough for what can't start for days.
    backoff = "RestartSec=3" if facts.systemd < 254 else "RestartSec=1\nRestartSteps=5\nRestartMaxDelaySec=30"
    return {
        "backoff": backoff,
        "bindir": str(facts.programs),
        "containerd_trust": str(settings.paths.containerd_trust),
        "docker_trust": str(settings.paths.docker_trust),
        "group": settings.agent.group,
        "registry_config": str(settings.registry.config),
        "registry_environment": str(ENVIRONMENT),
        "registry_unit": settings.registry.unit,
        "socket": str(settings.agent.socket),
        "socket_directory": str(settings.agent.socket.parent),
        "state": str(settings.paths.state),
        "storage": str(settings.registry.storage),
        "system_trust": str(settings.paths.system_trust),
        "tls": str(settings.certificate.directory),
    }


def registry_config(settings: Settings) -> dict[str, object]:
    """The configuration of docker-registry (distribution 2.8) without its secret.

    No cache of blob descriptors: with one, a push after a garbage collection may end well and store nothing.
    """
    registry, tokens = settings.registry, settings.token_server
    return {
        "version": 0.1,
        "log": {"level": "info", "fields": {"service": "registry"}},
        "storage": {
            "filesystem": {"rootdirectory": str(registry.storage)},
            "delete": {"enabled": True},
            # what pushes that failed have left, above all those that found the disk full
            "maintenance": {
                "uploadpurging": {"enabled": True, "age": "24h", "interval": "1h", "dryrun": False}
            },
        },
        "http": {
            "addr": f":{registry.port}",
            "draintimeout": "10s",
            "tls": {
                "certificate": str(settings.certificate.chain),
                "key": str(settings.certificate.key),
                "minimumtls": "tls1.2",
            },
            "debug": {"addr": str(registry.metrics), "prometheus": {"enabled": True, "path": "/metrics"}},
            "headers": {"X-Content-Type-Options": ["nosniff"]},
        },
        "auth": {
            "token": {
                "realm": f"https://{registry.host_names[0]}:{tokens.port}/token/",
                "service": registry.address,
                "issuer": tokens.issuer,
                "rootcertbundle": str(trust_bundle(settings)),
            }
        },
        "health": {"storagedriver": {"enabled": True, "interval": "10s", "threshold": 3}},
    }


def desired(settings: Settings, facts: Facts, templates: Mapping[str, bytes], *, adopt: bool) -> list[Item]:
    """Everything that sysreg-deploy lays down, each after what it needs.

    Raises SysregError if containerd's configuration can't be extended.
    """
    registry, token_server = settings.registry.unit, settings.token_server.unit
    files = {
        path: File(Path(path), content, restarts=_restarts(path, settings))
        for path, content in templates.items()
    }
    sysusers, tmpfiles = files["/etc/sysusers.d/sysreg.conf"], files["/etc/tmpfiles.d/sysreg.conf"]
    first = {"/etc/sysreg/sysreg.conf", str(sysusers.path), str(tmpfiles.path)}
    config = yaml.safe_dump(registry_config(settings), sort_keys=False)

    made = places(tmpfiles, (token_server, AGENT))
    special = frozenset((*(place.path for place in made), settings.certificate.directory))
    items: list[Item] = [
        File(Path("/etc/sysreg/sysreg.conf"), templates["/etc/sysreg/sysreg.conf"], seed=True),
        sysusers,
        Accounts(sysusers),
        tmpfiles,
        *made,
        *(item for path, item in files.items() if path not in first),
    ]
    if not str(facts.programs).startswith("/usr/"):
        items += [Link(Path("/usr/local/bin") / name, str(facts.programs / name)) for name in PROGRAMS]
        pages = [Path("man") / f"man{name[-1]}" / name for name in MAN_PAGES]
        items += [
            Link(Path("/usr/local/share") / page, str(facts.programs.parent / "share" / page))
            for page in pages
        ]
    if facts.address:
        items.append(Block(Path("/etc/hosts"), f"{facts.address} {' '.join(_names(settings))}\n"))
    if facts.containerd is not None and (block := containerd_block(facts.containerd, settings)):
        items.append(Block(CONTAINERD_CONFIG, block, restarts=("containerd.service",)))
    items += [
        SigningPair(settings, restarts=(token_server, AGENT)),
        TokenTrust(settings, restarts=(registry,)),
        RegistryEnvironment(ENVIRONMENT, restarts=(registry,)),
        TlsDirectory(settings.certificate.directory),
        ServerCertificate(settings, restarts=(registry, token_server, AGENT)),
        Trust(settings, adopt, mounted_by=(AGENT,)),
        File(
            settings.registry.config,
            f"# Written by sysreg-deploy from {DEFAULT_PATH}.\n{config}".encode(),
            restarts=(registry,),
        ),
        Directories(special),
        Taken(facts.taken, restarts=(token_server, AGENT)),
        Loaded((registry, token_server, SOCKET, AGENT)),
        *(Enabled(unit) for unit in (registry, token_server, SOCKET, AGENT)),
        RunningRegistry(registry, port=settings.registry.port, debug=str(settings.registry.metrics)),
        Running(token_server),
        Running(SOCKET, settings.agent.socket),
        Running(AGENT),
    ]
    if facts.containerd is not None:
        items.append(Taking("containerd.service"))
    return items


def containerd_block(present: str, settings: Settings) -> str:
    """The lines that make containerd's CRI read certs.d, empty if it does anyhow. Raises SysregError."""
    ours = present.partition("# begin sysreg-deploy")[0] + present.partition("# end sysreg-deploy\n")[2]
    wanted = str(settings.paths.containerd_trust)
    try:
        parsed = tomllib.loads(ours)
    except tomllib.TOMLDecodeError as error:
        raise SysregError(
            f"{CONTAINERD_CONFIG} is not TOML: {error}", next_step="mend it, then run again"
        ) from None
    version = parsed.get("version", 2)
    plugin, table = _CONTAINERD_TABLE.get(version, _CONTAINERD_TABLE[3])
    registry = parsed.get("plugins", {}).get(plugin, {}).get(table)
    if registry is None:
        head = "" if "version" in parsed else "version = 2\n"
        if head and parsed:
            raise SysregError(
                f"{CONTAINERD_CONFIG} has no version", next_step="move it to version 2, then run again"
            )
        return f'{head}[plugins."{plugin}".{table}]\n  config_path = "{wanted}"\n'
    if wanted in registry.get("config_path", "").split(":"):
        return ""
    raise SysregError(
        f'{CONTAINERD_CONFIG}: [plugins."{plugin}".{table}] does not read {wanted}',
        next_step=f'set config_path = "{wanted}" there, then run sysreg-deploy again',
    )


def _names(settings: Settings) -> list[str]:
    """The host names proper: an address needs no line in /etc/hosts."""
    return [name for name in settings.registry.host_names if as_address(name) is None]


def _restarts(path: str, settings: Settings) -> tuple[str, ...]:
    name = Path(path)
    if name.parent.name == f"{settings.registry.unit}.d":
        return (settings.registry.unit,)
    return (name.name,) if name.suffix in (".service", ".socket") else ()
