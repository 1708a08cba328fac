"""The settings of all parts: ``/etc/sysreg/sysreg.conf`` (INI) as frozen dataclasses.

``load()`` reports every problem of a file at once, each with file and line; nothing starts on bad settings.
The file holds no secrets. ``etc/sysreg/sysreg.conf`` is the commented sample, and a test keeps it equal to
the defaults here. The environment variable ``SYSREG_CONF`` names another file.
"""

from __future__ import annotations

import configparser
import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from sysreg_cli.addresses import HostPort, parse_port
from sysreg_cli.errors import SettingsError

DEFAULT_PATH = Path("/etc/sysreg/sysreg.conf")

_HOST_NAME = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*")
_UNIT_NAME = re.compile(r"[A-Za-z0-9:_.\\@-]+\.service")
_PRINTABLE = re.compile(r"[\x20-\x7e\xa0-\U0010ffff]*")


def _text(value: str) -> str:
    if not _PRINTABLE.fullmatch(value):
        raise ValueError("has control characters, or goes on over several lines")
    return value


def _words(value: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value.replace(",", " ").split()))


def _host_names(value: str) -> tuple[str, ...]:
    names = tuple(name.lower() for name in _words(value))
    if not names:
        raise ValueError("needs at least one host name")
    for name in names:
        if not _HOST_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a host name")
    return names


def _path(value: str) -> Path:
    path = Path(_text(value))
    if not path.is_absolute():
        raise ValueError(f"{value!r} is not an absolute path")
    return path


def _optional_path(value: str) -> Path | None:
    return _path(value) if value else None


def _seconds(min_value: int, max_value: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", value) or not min_value <= int(value) <= max_value:
            raise ValueError(f"{value!r} is not a whole number between {min_value} and {max_value}")
        return int(value)

    return parse


def _url(value: str) -> str:
    if not re.fullmatch(r"https?://(\[[0-9A-Fa-f:.]+\]|[^\s/:@]+)(:[0-9]{1,5})?(/[^\s]*)?", value):
        raise ValueError(f"{value!r} is not an http:// or https:// URL")
    return value.rstrip("/")


def _optional_url(value: str) -> str:
    return _url(value) if value else ""


def _optional_host_port(value: str) -> HostPort | None:
    return None if value in ("", "none") else HostPort.parse(value)


def _unit(value: str) -> str:
    if not _UNIT_NAME.fullmatch(value):
        raise ValueError(f"{value!r} is not the name of a .service unit")
    return value


def _key(default: Any, parse: Callable[[str], Any]) -> Any:
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
        """Every host:port that means this registry, as clients write it before an image name."""
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

    auth_url: str = _key("", _optional_url)
    ca_file: Path | None = _key(None, _optional_path)
    user_domain: str = _key("Default", _text)
    admin_project: str = _key("admin", _text)
    timeout: int = _key(15, _seconds(1, 300))


@dataclass(frozen=True, slots=True)
class TokenServerSettings:
    """Section [token_server]. Lifetimes are seconds; an empty ``listen`` means every address."""

    listen: str = _key("", _text)
    port: int = _key(9002, parse_port)
    issuer: str = _key("sysreg-token-server", _text)
    signing_key: Path = _key(Path("/etc/sysreg/token/signing.key"), _path)
    signing_certificate: Path = _key(Path("/etc/sysreg/token/signing.crt"), _path)
    administrators: tuple[str, ...] = _key(("admin", "sysinv"), _words)
    reserved_users: tuple[str, ...] = _key(("mtce",), _words)
    public_images: tuple[str, ...] = _key((), _words)
    read_lifetime: int = _key(300, _seconds(60, 86400))
    write_lifetime: int = _key(60, _seconds(60, 600))
    cache_ttl: int = _key(300, _seconds(0, 300))
    unit: str = _key("sysreg-token-server.service", _unit)


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """Section [agent]. Times are seconds; without ``listen`` only the unix socket serves."""

    socket: Path = _key(Path("/run/sysreg/agent.sock"), _path)
    group: str = _key("sysreg", _text)
    listen: HostPort | None = _key(None, _optional_host_port)
    restart_command: str = _key("systemctl restart {unit}", _text)
    reload_command: str = _key("systemctl reload {unit}", _text)
    restart_timeout: int = _key(60, _seconds(1, 600))
    probe_timeout: int = _key(20, _seconds(1, 300))
    collect_grace: int = _key(3600, _seconds(0, 31536000))
    collect_timeout: int = _key(7200, _seconds(1, 604800))
    drain_timeout: int = _key(1800, _seconds(1, 86400))


@dataclass(frozen=True, slots=True)
class CertificateSettings:
    """Section [certificate]: ``directory`` holds the generations and the link to the one in use."""

    directory: Path = _key(Path("/etc/sysreg/tls"), _path)
    min_days_warning: int = _key(30, _seconds(0, 3650))

    @property
    def chain(self) -> Path:
        """The certificate chain in use, PEM."""
        return self.directory / "current" / "server.crt"

    @property
    def key(self) -> Path:
        """The private key in use, PEM."""
        return self.directory / "current" / "server.key"


@dataclass(frozen=True, slots=True)
class PathSettings:
    """Section [paths]: where the host keeps what is not ours alone; changed for an embedded controller."""

    state: Path = _key(Path("/var/lib/sysreg"), _path)
    docker_trust: Path = _key(Path("/etc/docker/certs.d"), _path)
    containerd_trust: Path = _key(Path("/etc/containerd/certs.d"), _path)
    system_trust: Path = _key(Path("/usr/local/share/ca-certificates"), _path)
    system_trust_command: str = _key("update-ca-certificates", _text)


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings; docs/contracts.rst, "Files and settings", lists the defaults."""

    registry: RegistrySettings = field(default_factory=RegistrySettings)
    keystone: KeystoneSettings = field(default_factory=KeystoneSettings)
    token_server: TokenServerSettings = field(default_factory=TokenServerSettings)
    agent: AgentSettings = field(default_factory=AgentSettings)
    certificate: CertificateSettings = field(default_factory=CertificateSettings)
    paths: PathSettings = field(default_factory=PathSettings)


_SECTIONS: dict[str, type] = {
    "registry": RegistrySettings,
    "keystone": KeystoneSettings,
    "token_server": TokenServerSettings,
    "agent": AgentSettings,
    "certificate": CertificateSettings,
    "paths": PathSettings,
}


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings from ``path``, else from SYSREG_CONF, else from /etc/sysreg/sysreg.conf.

    A missing default file means the defaults; a file that was named must exist.

    Raises SettingsError with every problem found: unknown sections and keys, bad values, bad syntax.
    """
    named = path or (Path(environ["SYSREG_CONF"]) if environ.get("SYSREG_CONF") else None)
    source = named or DEFAULT_PATH
    try:
        text = source.read_text(encoding="utf-8")
    except FileNotFoundError:
        if named is None:
            return Settings()
        raise SettingsError("settings refused", [f"{source}: no such file"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError("settings refused", [f"{source}: {_reason(error)}"]) from None
    return parse(text, str(source))


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or "cannot be read" if isinstance(error, OSError) else "is not UTF-8 text"


def parse(text: str, source: str) -> Settings:
    """Parse the text of a settings file; ``source`` names it in messages. Raises SettingsError."""
    parser = configparser.ConfigParser(interpolation=None, default_section="", delimiters=("=",))
    try:
        parser.read_string(text, source)
    except configparser.MissingSectionHeaderError as error:
        raise SettingsError(
            "settings refused", [f"{source}:{error.lineno}: stands before any [section]"]
        ) from None
    except configparser.ParsingError as error:
        raise SettingsError(
            "settings refused", [f"{source}:{line}: not `key = value`: {what}" for line, what in error.errors]
        ) from None
    except configparser.DuplicateSectionError as error:
        raise SettingsError(
            "settings refused", [f"{source}:{error.lineno}: second section [{error.section}]"]
        ) from None
    except configparser.DuplicateOptionError as error:
        raise SettingsError(
            "settings refused",
            [f"{source}:{error.lineno}: second {error.option} in section [{error.section}]"],
        ) from None

    problems: list[str] = []
    lines = _line_numbers(text)
    sections: dict[str, Any] = {}
    for name in parser.sections():
        if name not in _SECTIONS:
            problems.append(
                f"{source}:{lines.get((name, ''), 0)}: unknown section [{name}]"
                f" (known: {', '.join(sorted(_SECTIONS))})"
            )
            continue
        parsers = {key.name: key.metadata["parse"] for key in fields(_SECTIONS[name])}
        values: dict[str, Any] = {}
        for key, value in parser.items(name):
            where = f"{source}:{lines.get((name, key), 0)}"
            if key not in parsers:
                problems.append(f"{where}: unknown key {key} in section [{name}]")
                continue
            try:
                values[key] = parsers[key](value)
            except ValueError as error:
                problems.append(f"{where}: {key}: {error}")
        sections[name] = _SECTIONS[name](**values)
    if problems:
        raise SettingsError("settings refused", problems)
    settings = Settings(**sections)
    if problems := [f"{source}:{line}: {what}" for line, what in _clashes(settings, lines)]:
        raise SettingsError("settings refused", problems)
    return settings


def _clashes(settings: Settings, lines: Mapping[tuple[str, str], int]) -> Iterator[tuple[int, str]]:
    """Line and words of each pair of services that would listen at the same place."""
    registry, tokens, agent = settings.registry, settings.token_server, settings.agent
    places = [
        ("registry", "port", HostPort("", registry.port)),
        ("registry", "metrics", registry.metrics),
        ("token_server", "port", HostPort(tokens.listen, tokens.port)),
    ]
    if agent.listen:
        places.append(("agent", "listen", agent.listen))
    for (section, key, listener), (section_2, key_2, listener_2) in itertools.combinations(places, 2):
        if not listener.overlaps(listener_2):
            continue
        # the one that stands further down, and at least one of them stands in the file: defaults don't clash
        first, second = sorted(
            ((section, key), (section_2, key_2)), key=lambda where: lines.get(where, 0), reverse=True
        )
        yield (
            lines.get(first, 0),
            f"{first[1]}: port {listener.port} is already that of {second[1]} in section [{second[0]}]",
        )


def _line_numbers(text: str) -> dict[tuple[str, str], int]:
    """(section, key) -> line; the key is empty for the section's own line. configparser doesn't keep them."""
    numbers: dict[tuple[str, str], int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\[(.+)\]", line):
            section = header.group(1)
            numbers[section, ""] = number
        elif (pair := re.match(r"([^\s#;=][^=]*?)\s*=", line)) is not None:
            numbers[section, pair.group(1).lower()] = number
    return numbers
