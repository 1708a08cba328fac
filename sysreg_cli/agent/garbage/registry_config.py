"""Reads what garbage collection needs of the registry's own config.yml (distribution 2.8)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sysreg_cli.addresses import HostPort, parse_port
from sysreg_cli.errors import SysregError

# Keys of ``storage`` that are not drivers (distribution 2.8: configuration.Storage.Type).
_NOT_DRIVERS = {"maintenance", "cache", "delete", "redirect"}
_DEFAULT_ROOT = "/var/lib/registry"


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    """A part of the registry's configuration.

    ``root`` is None unless the driver is ``filesystem``. ``cache`` is the kind of blob descriptor cache. The
    registry shows the path ``metrics`` at ``debug``, and serves images at ``listen``; None means unknown.
    """

    path: Path
    driver: str
    root: Path | None
    cache: str = ""
    debug: HostPort | None = None
    metrics: str = "/metrics"
    listen: HostPort | None = None


def read(path: Path) -> RegistryConfig:
    """Read a config.yml. Raises SysregError if it can't be read or has no storage driver."""
    try:
        document = _mapping(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SysregError(f"the registry's configuration {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise SysregError(f"the registry's configuration {path} is not YAML") from None
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
    )


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
