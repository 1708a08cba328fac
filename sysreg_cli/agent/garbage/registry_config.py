"""What garbage collection must know of the registry's own config.yml (distribution 2.8)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sysreg_cli.errors import SysregError

# Keys of `storage` that are no drivers (distribution 2.8: configuration.Storage.Type).
_NO_DRIVERS = {"maintenance", "cache", "delete", "redirect"}
_DEFAULT_ROOT = "/var/lib/registry"


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    """``root`` is set for the filesystem driver alone; ``cache`` is the kind of blob descriptor cache, or "";
    ``debug`` is where the gauges are served (host:port), "" if nowhere; ``listen`` is the registry's address.
    """

    path: Path
    driver: str
    root: Path | None
    cache: str = ""
    debug: str = ""
    metrics: str = "/metrics"
    listen: str = ""


def read(path: Path) -> RegistryConfig:
    """Read the registry's config.yml. Raises SysregError if it can't be read or has no storage driver."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SysregError(f"the registry's configuration {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise SysregError(f"the registry's configuration {path} is not YAML") from None
    storage = _mapping(_mapping(document).get("storage"))
    drivers = storage.keys() - _NO_DRIVERS
    if len(drivers) != 1:
        raise SysregError(f"the registry's configuration {path}: storage has no driver, or several")
    driver = str(drivers.pop())
    root = None
    if driver == "filesystem":
        root = Path(str(_mapping(storage[driver]).get("rootdirectory") or _DEFAULT_ROOT))
    http = _mapping(document.get("http"))
    debug = _mapping(http.get("debug"))
    prometheus = _mapping(debug.get("prometheus"))
    return RegistryConfig(
        path=path,
        driver=driver,
        root=root,
        cache=str(_mapping(storage.get("cache")).get("blobdescriptor") or ""),
        debug=str(debug.get("addr") or "") if prometheus.get("enabled") else "",
        metrics=str(prometheus.get("path") or "/metrics"),
        listen=str(http.get("addr") or ""),
    )


def _mapping(value: Any) -> dict[str, Any]:
    """A mapping as it is; a bare word (``storage: filesystem``) as one that maps to nothing; else {}."""
    if isinstance(value, str):
        return {value: None}
    return value if isinstance(value, dict) else {}
