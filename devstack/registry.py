"""The configuration of the embedded controller's docker-registry (distribution 2.8)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

USER = "docker-registry"


def config(
    *,
    listen: str,
    debug: str,
    service: str,
    realm: str,
    issuer: str,
    storage: str,
    tls: str,
    signing_certificate: str,
    secret: str,
) -> dict[str, Any]:
    """The configuration as a value; ``listen`` and ``debug``: host:port, ``tls``: the directory of the pair.

    No blob descriptor cache: with one, a push after a garbage collection may end well and store nothing.
    """
    return {
        "version": 0.1,
        "log": {"level": "info", "accesslog": {"disabled": False}, "fields": {"service": "registry"}},
        "storage": {
            "filesystem": {"rootdirectory": storage},
            "delete": {"enabled": True},
            "maintenance": {"readonly": {"enabled": False}},
        },
        "http": {
            "addr": listen,
            "secret": secret,
            "tls": {"certificate": f"{tls}/server.crt", "key": f"{tls}/server.key", "minimumtls": "tls1.2"},
            "debug": {"addr": debug, "prometheus": {"enabled": True, "path": "/metrics"}},
            "headers": {"X-Content-Type-Options": ["nosniff"]},
        },
        "auth": {
            "token": {
                "realm": realm,
                "service": service,
                "issuer": issuer,
                "rootcertbundle": signing_certificate,
            }
        },
    }


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` laid over it, mapping by mapping; a value of None takes the key away."""
    result = copy.deepcopy(dict(base))
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result
