"""Reads what sysreg needs of the registry's own configuration (distribution 2.8).

That is config.yml, and the environment of the registry's unit: a variable ``REGISTRY_STORAGE_DELETE_ENABLED``
overrides the key ``enabled`` in ``delete`` in ``storage``, and so on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sysreg_cli.addresses import HostPort, parse_port
from sysreg_cli.errors import SysregError
from sysreg_cli.host.unit_environment import UnitEnvironment
from sysreg_cli.settings import Settings

# Keys of ``storage`` that are not drivers (distribution 2.8: configuration.Storage.Type).
_NOT_DRIVERS = {"maintenance", "cache", "delete", "redirect"}
_DEFAULT_ROOT = "/var/lib/registry"
_PREFIX = "REGISTRY_"


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    """A part of the registry's configuration.

    ``root`` is None unless the driver is ``filesystem``. ``cache`` is the kind of blob descriptor cache. The
    registry shows the path ``metrics`` at ``debug``, and serves images at ``listen``; None means unknown. Its
    collector needs ``environment``. It ``deletes`` unless it is read-only, or does not allow that.
    """

    path: Path
    driver: str
    root: Path | None
    cache: str = ""
    debug: HostPort | None = None
    metrics: str = "/metrics"
    listen: HostPort | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    deletes: bool = False


def load(settings: Settings) -> RegistryConfig:
    """Read the configuration with which the registry is started.

    Raises SysregError if it can't be read, has no storage driver, or is another one than the settings name;
    if its storage is another one, to which the agent's sandbox does not let it write; Unavailable if systemd
    does not answer.
    """
    path, unit = settings.registry.config, settings.registry.unit
    try:
        started = UnitEnvironment.read(settings.agent, unit)
    except OSError as error:
        raise SysregError(f"the environment of {unit}: {error.filename}: {error.strerror}") from None
    others = [word for word in started.arguments if word.endswith((".yml", ".yaml")) and word != str(path)]
    if others and str(path) not in started.arguments:
        raise SysregError(
            f"{unit} is started with {others[0]}, but the setting config in section [registry] is {path}",
            next_step="make them the same",
        )
    config = read(path, started.variables)
    configured = settings.registry.storage
    if config.root not in (None, configured) and not os.access(config.root, os.W_OK):
        raise SysregError(
            f"the registry's storage is {config.root}, but the setting storage in section [registry] is"
            f" {configured}, so the agent may not write there",
            next_step=f"set storage to {config.root}, and run sysreg-deploy",
        )
    return config


def read(path: Path, environment: Mapping[str, str] | None = None) -> RegistryConfig:
    """Read a config.yml, and what ``environment`` overrides. Raises SysregError."""
    environment = environment or {}
    try:
        document = _mapping(yaml.safe_load(path.read_text(encoding="utf-8")))
        _override(document, environment)
    except OSError as error:
        raise SysregError(f"the registry's configuration {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise SysregError(f"the registry's configuration {path}, or a variable, is not YAML") from None
    storage = _mapping(document.get("storage"))
    drivers = storage.keys() - _NOT_DRIVERS
    if len(drivers) != 1:
        raise SysregError(f"the registry's configuration {path}: storage has no driver, or several")
    driver = str(drivers.pop())
    directory = str(_mapping(storage[driver]).get("rootdirectory") or _DEFAULT_ROOT)
    http = _mapping(document.get("http"))
    debug = _mapping(http.get("debug"))
    prometheus = _mapping(debug.get("prometheus"))
    return RegistryConfig(
        path=path,
        driver=driver,
        root=Path(directory) if driver == "filesystem" else None,
        cache=str(_mapping(storage.get("cache")).get("blobdescriptor") or ""),
        debug=_address(debug.get("addr")) if prometheus.get("enabled") else None,
        metrics=str(prometheus.get("path") or "/metrics"),
        listen=_address(http.get("addr")),
        # what it serves concerns the registry alone, and may be secret
        deletes=_mapping(storage.get("delete")).get("enabled") is True
        and not _mapping(_mapping(storage.get("maintenance")).get("readonly")).get("enabled"),
        environment={k: v for k, v in environment.items() if not k.upper().startswith(f"{_PREFIX}HTTP")},
    )


def _override(document: dict[str, Any], environment: Mapping[str, str]) -> None:
    """Set what ``REGISTRY_*`` variables override, outer keys first, as the registry does."""
    for name in sorted(environment):
        if name.upper().startswith(_PREFIX):
            *outer, last = name.lower().split("_")[1:]
            here = document
            for key in outer:
                here[key] = _mapping(here.get(key))
                here = here[key]
            here[last] = yaml.safe_load(environment[name])


def _address(value: Any) -> HostPort | None:
    """Parse an address as Go does: the host may be empty. Go chooses a missing port, hence None."""
    host, _, port = str(value).rpartition(":")
    try:
        return HostPort(host.removeprefix("[").removesuffix("]"), parse_port(port))
    except ValueError:
        return None


def _mapping(value: Any) -> dict[str, Any]:
    """Return a mapping as it is, a word (``storage: filesystem``) as a mapping to None, all else as {}."""
    if isinstance(value, str):
        return {value: None}
    return value if isinstance(value, dict) else {}
