"""The credential cache: who the owners of credentials are that Keystone accepted lately."""

from __future__ import annotations

import time
from collections.abc import Callable

from cachetools import TLRUCache

from sysreg_cli.token_server.keystone import Authentication


class CredentialCache(TLRUCache[bytes, Authentication]):
    """Maps the fingerprint of credentials to Keystone's response, in memory.

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
