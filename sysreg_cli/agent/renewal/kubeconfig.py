"""A kubeconfig file: where Kubernetes' API is, whom to trust there, and the credentials.

The form is that of https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/. The package ``kubernetes``
reads it, too, but writes keys to temporary files, and brings 30 MB for two requests.
"""

from __future__ import annotations

import base64
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from sysreg_cli.errors import SysregError, text_of

#: ways to get credentials that need programs or other protocols, and a switch that turns verification off
_UNSUPPORTED = ("exec", "auth-provider", "username", "proxy-url", "insecure-skip-tls-verify")


@dataclass(frozen=True, slots=True)
class Cluster:
    """How to reach the API. ``path`` comes before each path of the API; ``server_name`` is for TLS."""

    host: str
    port: int
    path: str
    server_name: str
    context: ssl.SSLContext = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


def load(path: Path) -> Cluster:
    """Read the current context of a kubeconfig file. Raises SysregError."""
    try:
        return _read(path)
    except SysregError:
        raise
    except OSError as error:  # also ssl.SSLError
        raise SysregError(f"{path}: {text_of(error)}") from None
    except yaml.YAMLError:
        raise SysregError(f"{path} is not YAML") from None
    except (KeyError, StopIteration, TypeError, ValueError, AttributeError):
        raise SysregError(f"{path} is not a kubeconfig with a current context") from None


def _read(path: Path) -> Cluster:
    config = yaml.safe_load(path.read_bytes())
    context = _named(config["contexts"], config["current-context"])["context"]
    cluster = _named(config["clusters"], context["cluster"])["cluster"]
    user = _named(config["users"], context["user"])["user"] or {}
    for key in _UNSUPPORTED:
        if cluster.get(key) or user.get(key):
            raise SysregError(
                f"{path}: `{key}` is not supported",
                next_step="name a file with a client certificate or a token (kubeconfig in [certificate])",
            )
    url = urlsplit(cluster["server"])
    if url.scheme != "https" or not url.hostname:
        raise SysregError(f"{path}: the server's URL is not https")
    authority = _data(path, cluster, "certificate-authority")
    tls = ssl.create_default_context(cadata=authority.decode() if authority else None)
    # Python 3.13 sets it. kubectl accepts CAs that it refuses.
    tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if certificate := _data(path, user, "client-certificate"):
        _present(tls, certificate, _data(path, user, "client-key"))
    token = _token(path, user)
    return Cluster(
        url.hostname,
        url.port or 443,
        url.path.rstrip("/"),
        cluster.get("tls-server-name") or url.hostname,
        tls,
        {"Authorization": f"Bearer {token}"} if token else {},
    )


def _named(entries: Any, name: str) -> Any:
    return next(entry for entry in entries if entry["name"] == name)


def _data(path: Path, section: Mapping[str, Any], key: str) -> bytes:
    """Return what ``key``-data holds, or the file that ``key`` names; b"" without both."""
    if encoded := section.get(f"{key}-data"):
        return base64.b64decode(encoded, validate=True)
    return (path.parent / section[key]).read_bytes() if section.get(key) else b""


def _token(path: Path, user: Mapping[str, Any]) -> str:
    if user.get("tokenFile"):
        return (path.parent / str(user["tokenFile"])).read_text().strip()
    return str(user.get("token") or "")


def _present(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Have clients present a certificate. OpenSSL reads it from a file, so the file is one in memory."""
    descriptor = os.memfd_create("client certificate", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(certificate + b"\n" + key)
        file.flush()
        # without a password OpenSSL would ask the terminal for that of an encrypted key
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
