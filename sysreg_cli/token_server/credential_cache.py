"""The credential cache: the owners of the credentials that Keystone accepted lately."""

from __future__ import annotations

import contextlib
import hmac
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from cachetools import TLRUCache

from sysreg_cli.host import files
from sysreg_cli.token_server.credentials import Credentials
from sysreg_cli.token_server.keystone import Authentication

_KEY_SIZE = 32


class CredentialCache(TLRUCache[bytes, Authentication]):
    """Maps fingerprints of credentials to Keystone's responses, in memory.

    Keeps an entry for ``ttl`` seconds, or for the lifetime that Keystone gave it if that is shorter.
    """

    def __init__(
        self, ttl: float, *, max_entries: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(
            max_entries,
            lambda _fingerprint, authentication, now: now + min(ttl, authentication.lifetime),
            clock,
        )


class Fingerprints:
    """Keyed hashes, instead of the credentials. Creates this controller's key, ``<directory>/key``."""

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

    def of_client(self, network: str) -> bytes:
        """Hash the network of a client."""
        return hmac.digest(self._key, b"client " + network.encode(), "sha256")


def _load_key(path: Path) -> bytes:
    with contextlib.suppress(FileNotFoundError):
        key = path.read_bytes()
        if len(key) == _KEY_SIZE:
            return key
    key = secrets.token_bytes(_KEY_SIZE)
    files.write(path, key, mode=0o600)
    return key
