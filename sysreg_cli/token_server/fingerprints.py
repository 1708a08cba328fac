"""Keyed hashes: how the token server remembers credentials without keeping them."""

from __future__ import annotations

import contextlib
import hmac
import secrets
from pathlib import Path

from sysreg_cli.host import files
from sysreg_cli.token_server.credentials import Credentials

_KEY_SIZE = 32


class Fingerprints:
    """Hashes with the key of this controller, in ``<directory>/key``. Creates the key if it is missing."""

    def __init__(self, directory: Path) -> None:
        self._key = _load_key(directory / "key")

    def of_credentials(self, credentials: Credentials) -> bytes:
        """Hash the credentials, with the length of the name: ("a", "bc") differs from ("ab", "c")."""
        name = credentials.name.encode("utf-8", "surrogatepass")
        secret = credentials.secret.encode("utf-8", "surrogatepass")
        prefix = f"{credentials.kind} {len(name)} ".encode()
        return hmac.digest(self._key, prefix + name + secret, "sha256")

    def of_name(self, name: str) -> bytes:
        """Hash a user name, without regard to case: Keystone on MySQL ignores it, too."""
        folded = name.casefold().encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, b"name " + folded, "sha256")


def _load_key(path: Path) -> bytes:
    with contextlib.suppress(FileNotFoundError):
        key = path.read_bytes()
        if len(key) == _KEY_SIZE:
            return key
    key = secrets.token_bytes(_KEY_SIZE)
    files.write(path, key, mode=0o600)
    return key
