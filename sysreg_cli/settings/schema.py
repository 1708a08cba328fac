"""Every setting: a dataclass for each section, with the default of each key and the parser of its text.

The commented sample etc/sysreg/sysreg.conf explains each key. A test compares it with the defaults here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

from sysreg_cli.addresses import HostPort, auth_url_problem, parse_port

#: In the directory of certificates: the link to the generation in use, and the files of a generation.
CURRENT, CHAIN_FILE, KEY_FILE = "current", "server.crt", "server.key"

#: the longest grace time of a garbage collection in seconds, a year
MAX_GRACE = 31_536_000

#: the longest time that ``duration`` takes, ten years in seconds
MAX_DURATION = 315_360_000
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

#: a DNS name in lower case, as a regular expression
HOST_NAME = r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*"
_URL = r"https?://(\[[0-9A-Fa-f:.]+\]|[^\s/:@]+)(:[0-9]{1,5})?(/[^\s]*)?"


def _text(value: str) -> str:
    if not re.fullmatch(r"[\x20-\x7e\xa0-\U0010ffff]*", value):
        raise ValueError("has control characters, or goes on over several lines")
    return value


def _words(value: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value.replace(",", " ").split()))


def _image_globs(value: str) -> tuple[str, ...]:
    # the name of an image has no colon, so this is the address of a registry
    return tuple(re.sub(r"^[^/]+:[0-9]+/", "", glob) for glob in _words(value))


def _host_names(value: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(host_name(name.lower()) for name in _words(value)))
    if not names:
        raise ValueError("needs at least one host name")
    return names


def host_name(name: str) -> str:
    """Read a host name or an address. An IPv6 address may have brackets, and gets its shortest form."""
    if ":" not in name:
        if not re.fullmatch(HOST_NAME, name):
            raise ValueError(f"{name!r} is not a host name")
        return name
    try:
        address = IPv6Address(name[1:-1] if name[0] == "[" and name[-1] == "]" else name)
    except ValueError:
        raise ValueError(f"{name!r} is neither a host name nor an IPv6 address") from None
    if address.scope_id:
        raise ValueError(f"{name!r} has a zone, which no certificate can name")
    return str(address)


def _path(value: str) -> Path:
    path = Path(_text(value))
    if not path.is_absolute():
        raise ValueError(f"{value!r} is not an absolute path")
    return path


def _optional_path(value: str) -> Path | None:
    return _path(value) if value else None


def _number(min_value: int, max_value: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", value) or not min_value <= int(value) <= max_value:
            raise ValueError(f"{value!r} is not a whole number between {min_value} and {max_value}")
        return int(value)

    return parse


def _optional(parse: Callable[[str], int]) -> Callable[[str], int | None]:
    return lambda value: None if value in ("", "none") else parse(value)


def duration(value: str) -> int:
    """Return the seconds that a text such as ``30d`` means. Raises ValueError that says what is wrong."""
    match = re.fullmatch(r"([0-9]{1,9})([smhdw])", value)
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 0 < seconds <= MAX_DURATION:
        raise ValueError(f"{value!r} is not a time such as 45m, 12h, 30d or 8w, of ten years at most")
    return seconds


def _optional_url(value: str) -> str:
    if value and not re.fullmatch(_URL, value):
        raise ValueError(f"{value!r} is not an http:// or https:// URL")
    return value.rstrip("/")


def _auth_url(value: str) -> str:
    if value and (problem := auth_url_problem(value)):
        raise ValueError(f"{value!r} {problem}")
    return _optional_url(value)


def _optional_host_port(value: str) -> HostPort | None:
    return None if value in ("", "none") else HostPort.parse(value)


def _optional_loopback(value: str) -> HostPort | None:
    address = _optional_host_port(value)
    if address is not None and address.host not in ("127.0.0.1", "::1"):
        raise ValueError(f"{value!r} is not 127.0.0.1:PORT or [::1]:PORT")
    return address


def _host_ports(value: str) -> tuple[HostPort, ...]:
    return tuple(map(HostPort.parse, _words(value)))


def _optional_address_port(value: str) -> HostPort | None:
    """Read ADDRESS:PORT. etcd listens at an address and not at a name, and tells others which one it is."""
    if not value:
        return None
    place = HostPort.parse(value)
    try:
        address = ip_address(place.host)
    except ValueError:
        raise ValueError(f"{value!r} is not ADDRESS:PORT") from None
    if address.is_unspecified:
        raise ValueError(f"{value!r} stands for every address: name the one that the other hosts use")
    return place


def _optional_host_name(value: str) -> str:
    return host_name(value.lower()) if value else ""


def _unit(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9:_.\\@-]+\.service", value):
        raise ValueError(f"{value!r} is not the name of a .service unit")
    return value


@dataclass(frozen=True, slots=True)
class DirectorySource:
    """A directory in which certbot, a CSI driver or a script keeps key and certificate as files."""

    directory: Path

    def __str__(self) -> str:
        return f"files:{self.directory}"


@dataclass(frozen=True, slots=True)
class SecretSource:
    """A secret of Kubernetes in which cert-manager keeps key and certificate."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"secret:{self.namespace}/{self.name}"


def _source(value: str) -> DirectorySource | SecretSource | None:
    kind, _, place = value.partition(":")
    if value in ("", "none"):
        return None
    if kind == "files":
        return DirectorySource(_path(place))
    if kind == "secret" and re.fullmatch(rf"[a-z0-9-]{{1,63}}/{HOST_NAME}", place):
        return SecretSource(*place.split("/"))
    raise ValueError(f"{value!r} is not none, files:/DIRECTORY or secret:NAMESPACE/NAME")


def _key(default: Any, parse: Callable[[str], Any]) -> Any:
    """Declare a key. ``parse`` returns the value of a text, or raises ValueError that says what is wrong."""
    return field(default=default, metadata={"parse": parse})


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """Section [registry]: where the registry listens, and where its files are."""

    host_names: tuple[str, ...] = _key(("registry.local",), _host_names)
    port: int = _key(9001, parse_port)
    url: str = _key("", _optional_url)
    config: Path = _key(Path("/etc/docker/registry/config.yml"), _path)
    storage: Path = _key(Path("/var/lib/docker-registry"), _path)
    unit: str = _key("docker-registry.service", _unit)
    metrics: HostPort = _key(HostPort("127.0.0.1", 9003), HostPort.parse)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every host:port that clients may write before the name of an image of this registry."""
        return tuple(str(HostPort(name, self.port)) for name in self.host_names)

    @property
    def address(self) -> str:
        """The first of ``addresses``; also the name of the service in tokens."""
        return self.addresses[0]

    @property
    def base_url(self) -> str:
        return self.url or f"https://{self.address}"


@dataclass(frozen=True, slots=True)
class KeystoneSettings:
    """Section [keystone]. Timeouts are seconds."""

    auth_url: str = _key("", _auth_url)
    ca_file: Path | None = _key(None, _optional_path)
    user_domain: str = _key("Default", _text)
    admin_project: str = _key("admin", _text)
    timeout: int = _key(15, _number(1, 300))


@dataclass(frozen=True, slots=True)
class TokenServerSettings:
    """Section [token_server]. Lifetimes are seconds. An empty ``listen`` means every address."""

    listen: str = _key("", _text)
    port: int = _key(9002, parse_port)
    issuer: str = _key("sysreg-token-server", _text)
    signing_key: Path = _key(Path("/etc/sysreg/token/signing.key"), _path)
    signing_certificate: Path = _key(Path("/etc/sysreg/token/signing.crt"), _path)
    administrators: tuple[str, ...] = _key(("admin", "sysinv"), _words)
    reserved_users: tuple[str, ...] = _key(("mtce",), _words)
    registry_like_users: tuple[str, ...] = _key((), _words)
    public_images: tuple[str, ...] = _key((), _words)
    read_lifetime: int = _key(300, _number(60, 86400))
    write_lifetime: int = _key(60, _number(60, 600))
    cache_ttl: int = _key(300, _number(0, 300))
    unit: str = _key("sysreg-token-server.service", _unit)

    @property
    def trust_bundle(self) -> Path:
        """The certificates with whose keys the registry checks tokens: its ``rootcertbundle``."""
        return self.signing_certificate.with_name("trusted.crt")


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """Section [agent]. Times are seconds. Without ``listen`` the agent serves only the unix socket."""

    socket: Path = _key(Path("/run/sysreg/agent.sock"), _path)
    group: str = _key("sysreg", _text)
    listen: HostPort | None = _key(None, _optional_host_port)
    metrics: HostPort | None = _key(None, _optional_loopback)
    restart_command: str = _key("systemctl restart {unit}", _text)
    reload_command: str = _key("systemctl reload {unit}", _text)
    restart_timeout: int = _key(60, _number(1, 600))
    probe_timeout: int = _key(20, _number(1, 300))
    collect_grace: int = _key(3600, _number(0, MAX_GRACE))
    collect_timeout: int = _key(7200, _number(1, 604800))
    drain_timeout: int = _key(1800, _number(1, 86400))


@dataclass(frozen=True, slots=True)
class CertificateSettings:
    """Section [certificate]. ``directory`` holds the generations and the link to the current one.

    From ``source``, if it is set, the agent renews the certificate; ``kubeconfig`` is for a SecretSource.
    """

    directory: Path = _key(Path("/etc/sysreg/tls"), _path)
    min_days_warning: int = _key(30, _number(0, 3650))
    source: DirectorySource | SecretSource | None = _key(None, _source)
    kubeconfig: Path = _key(Path("/etc/kubernetes/admin.conf"), _path)

    @property
    def chain(self) -> Path:
        """The certificate chain in use, PEM."""
        return self.directory / CURRENT / CHAIN_FILE

    @property
    def key(self) -> Path:
        """The private key in use, PEM."""
        return self.directory / CURRENT / KEY_FILE


@dataclass(frozen=True, slots=True)
class AlarmSettings:
    """Section [alarms]: the command that gets each alarm. It is empty if there are no alarms."""

    command: str = _key("", _text)


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """Section [images]: globs of images, or of NAME:TAG, whose tags registry-image-prune never removes."""

    protected: tuple[str, ...] = _key((), _image_globs)


@dataclass(frozen=True, slots=True)
class RetentionSettings:
    """A section [retention NAME]: which tags of which images registry-image-prune removes.

    ``images`` and ``match`` are globs of the names of images and of tags. A tag goes if it is none of the
    ``keep`` newest, and was pushed more than ``older_than`` seconds ago; None stands for no such condition.
    Of the tags of an image at most ``at_most`` percent go.
    """

    images: tuple[str, ...] = _key((), _words)
    match: tuple[str, ...] = _key((), _words)
    keep: int | None = _key(None, _optional(_number(0, 999_999)))
    older_than: int | None = _key(None, _optional(duration))
    at_most: int = _key(50, _number(0, 100))

    @property
    def has_condition(self) -> bool:
        """Whether it says which tags go. Without a condition, every tag would."""
        return bool(self.match) or self.keep is not None or self.older_than is not None


@dataclass(frozen=True, slots=True)
class PathSettings:
    """Section [paths]: the state, and where other programs look for trusted certificates."""

    state: Path = _key(Path("/var/lib/sysreg"), _path)
    docker_trust: Path = _key(Path("/etc/docker/certs.d"), _path)
    containerd_trust: Path = _key(Path("/etc/containerd/certs.d"), _path)
    system_trust: Path = _key(Path("/usr/local/share/ca-certificates"), _path)
    system_trust_command: str = _key("update-ca-certificates", _text)


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Section [cluster]: the store that several hosts share. Without ``endpoints`` this machine is alone.

    At ``listen`` sysreg-deploy runs etcd on this machine; it is the only one of the ``endpoints`` by default.
    ``directory`` holds what this host logs in with. ``host`` is its name in the cluster; if it is empty, that
    of the machine.
    """

    listen: HostPort | None = _key(None, _optional_address_port)
    endpoints: tuple[HostPort, ...] = _key((), _host_ports)
    host: str = _key("", _optional_host_name)
    user: str = _key("root", _text)
    directory: Path = _key(Path("/etc/sysreg/cluster"), _path)

    def __post_init__(self) -> None:
        if self.listen and not self.endpoints:
            object.__setattr__(self, "endpoints", (self.listen,))

    @property
    def is_worker(self) -> bool:
        """Whether this machine is a worker of a cluster. The user of a controller is etcd's root."""
        return bool(self.endpoints) and self.user != "root"


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings; docs/reference.rst, "Settings", lists the defaults.

    ``retention`` has the sections [retention NAME] by their names.
    """

    registry: RegistrySettings = field(default_factory=RegistrySettings)
    keystone: KeystoneSettings = field(default_factory=KeystoneSettings)
    token_server: TokenServerSettings = field(default_factory=TokenServerSettings)
    agent: AgentSettings = field(default_factory=AgentSettings)
    certificate: CertificateSettings = field(default_factory=CertificateSettings)
    alarms: AlarmSettings = field(default_factory=AlarmSettings)
    images: ImageSettings = field(default_factory=ImageSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    paths: PathSettings = field(default_factory=PathSettings)
    retention: Mapping[str, RetentionSettings] = field(default_factory=dict)

    @property
    def token_servers(self) -> tuple[str, ...]:
        """Every host:port by which clients reach the token server."""
        return tuple(str(HostPort(name, self.token_server.port)) for name in self.registry.host_names)

    @property
    def listeners(self) -> dict[tuple[str, str], HostPort]:
        """Where the services listen, by the section and the key that decide it."""
        listeners = {
            ("registry", "port"): HostPort("", self.registry.port),
            ("registry", "metrics"): self.registry.metrics,
            ("token_server", "port"): HostPort(self.token_server.listen, self.token_server.port),
        }
        if self.agent.listen:
            listeners["agent", "listen"] = self.agent.listen
        if self.agent.metrics:
            listeners["agent", "metrics"] = self.agent.metrics
        if self.cluster.listen:
            listeners["cluster", "listen"] = self.cluster.listen
        return listeners
