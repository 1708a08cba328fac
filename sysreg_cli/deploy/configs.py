"""The configuration texts of other programs: docker-registry and containerd."""

from __future__ import annotations

import re
import secrets
import tomllib
from pathlib import Path

from sysreg_cli.addresses import HostPort
from sysreg_cli.deploy.file import split_marked
from sysreg_cli.errors import SysregError
from sysreg_cli.settings import Settings

CONTAINERD_CONFIG = Path("/etc/containerd/config.toml")
#: the settings of etcd
ETCD_ENVIRONMENT = Path("/etc/sysreg/etcd.env")
#: version of containerd's configuration -> plugin that reads certs.d
_CONTAINERD_PLUGINS = {2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.images"}


def registry_config(settings: Settings) -> dict[str, object]:
    """The configuration of docker-registry (distribution 2.8) without its secret.

    It has no cache of blob descriptors: with one, a push after a garbage collection can succeed and store
    nothing.
    """
    registry, tokens = settings.registry, settings.token_server
    return {
        "version": 0.1,
        "log": {"level": "info", "fields": {"service": "registry"}},
        "storage": {
            "filesystem": {"rootdirectory": str(registry.storage)},
            "delete": {"enabled": True},
            # for the uploads of failed pushes, above all of those that found the disk full
            "maintenance": {
                "uploadpurging": {"enabled": True, "age": "24h", "interval": "1h", "dryrun": False}
            },
        },
        "http": {
            "addr": f":{registry.port}",
            "draintimeout": "10s",
            # One client without an account can take a whole CPU with HTTP/2, and no client of the registry
            # uses it: docs/behaviour.rst, "docker-registry".
            "http2": {"disabled": True},
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
                "realm": f"https://{HostPort(registry.host_names[0], tokens.port)}/token/",
                "service": registry.address,
                "issuer": tokens.issuer,
                "rootcertbundle": str(tokens.trust_bundle),
            }
        },
        "health": {"storagedriver": {"enabled": True, "interval": "10s", "threshold": 3}},
    }


def registry_secret(path: Path) -> bytes:
    """The registry's ``http.secret`` as an environment file. The one at ``path`` is kept if it is good.

    It is not in the registry's configuration, so that everybody may read that.
    """
    if path.exists() and re.fullmatch(rb"REGISTRY_HTTP_SECRET=[0-9a-f]{64}\n", present := path.read_bytes()):
        return present
    return f"REGISTRY_HTTP_SECRET={secrets.token_hex(32)}\n".encode()


def containerd_lines(present: str, settings: Settings) -> str:
    """The lines that make containerd's CRI read certs.d, empty if it does so without them.

    ``present`` is the text of its configuration. Raises SysregError if nothing can be added to that.
    """
    certs_d = str(settings.paths.containerd_trust)
    try:
        before, _, after = split_marked(present)
        parsed = tomllib.loads(before + after)
    except tomllib.TOMLDecodeError as error:
        raise SysregError(
            f"{CONTAINERD_CONFIG} is not TOML: {error}", next_step="repair it, then run sysreg-deploy again"
        ) from None
    plugin = _CONTAINERD_PLUGINS.get(parsed.get("version", 2), _CONTAINERD_PLUGINS[3])
    registry = parsed.get("plugins", {}).get(plugin, {}).get("registry")
    if registry is None:
        if parsed and "version" not in parsed:
            raise SysregError(
                f"{CONTAINERD_CONFIG} has no version",
                next_step="move it to version 2, then run sysreg-deploy again",
            )
        head = "" if parsed else "version = 2\n"
        return f'{head}[plugins."{plugin}".registry]\n  config_path = "{certs_d}"\n'
    if certs_d in registry.get("config_path", "").split(":"):
        return ""
    raise SysregError(
        f'{CONTAINERD_CONFIG}: [plugins."{plugin}".registry] does not read {certs_d}',
        next_step=f'set config_path = "{certs_d}" there, then run sysreg-deploy again',
    )
