"""From credentials to an identity: the cache knows it, else Keystone does."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from sysreg_cli.errors import NotAuthenticated, Unavailable
from sysreg_cli.token_server.credential_cache import CredentialCache, Fingerprints
from sysreg_cli.token_server.credentials import Credentials
from sysreg_cli.token_server.keystone import Authentication, refusal
from sysreg_cli.token_server.lockout_guard import LockoutGuard
from sysreg_cli.tokens.grants import Identity

# Threads that ask Keystone. It hashes a password for a third of a second; more threads would only wait there.
THREADS = 16
# Different credentials on their way to Keystone. Further ones get 503.
_MAX_LOGINS = 256

_NOT_AGAIN = "not tried again for {}, or until a right login or `systemctl reload sysreg-token-server`"


class IdentityService(Protocol):
    """What the authenticator needs of Keystone."""

    def authenticate(self, credentials: Credentials) -> Authentication: ...


class Authenticator:
    """Asks Keystone once about credentials, however many requests carry them."""

    def __init__(
        self,
        keystone: IdentityService,
        fingerprints: Fingerprints,
        cache: CredentialCache,
        guard: LockoutGuard,
        *,
        max_wait: float = 13.0,
    ) -> None:
        """``max_wait``: seconds that a request waits for Keystone. docker drops a token request after 15."""
        self._keystone = keystone
        self._fingerprints = fingerprints
        self._cache = cache
        self._guard = guard
        self._max_wait = max_wait
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="keystone")
        self._logins: dict[bytes, asyncio.Task[Identity]] = {}

    async def identify(self, credentials: Credentials) -> Identity:
        """Return the owner of ``credentials``.

        Raises NotAuthenticated if Keystone refuses or refused them, Unavailable if it gives no response.
        """
        fingerprint = self._fingerprints.of_credentials(credentials)
        try:
            return self._cache[fingerprint].identity
        except KeyError:
            return await self._identify(credentials, fingerprint)

    async def _identify(self, credentials: Credentials, fingerprint: bytes) -> Identity:
        left = self._guard.seconds_left(fingerprint)
        if left > 0:
            raise NotAuthenticated(refusal(credentials), next_step=_NOT_AGAIN.format(_duration(left)))
        login = self._logins.get(fingerprint)
        if login is None:
            if len(self._logins) >= _MAX_LOGINS:
                raise Unavailable(
                    "too many logins are waiting for Keystone", next_step="try again in a while"
                )
            login = asyncio.create_task(self._log_in(credentials, fingerprint))
            self._logins[fingerprint] = login
            login.add_done_callback(lambda task: self._finish(fingerprint, task))
        try:
            # a client that disconnects, or waited too long, must not cancel the login of others
            return await asyncio.wait_for(asyncio.shield(login), self._max_wait)
        except TimeoutError:
            raise Unavailable(
                f"Keystone has not answered within {self._max_wait:.0f} s", next_step="try again in a while"
            ) from None

    def forget_refusals(self) -> None:
        """Ask Keystone again about all credentials that it refused."""
        self._guard.clear()

    def close(self) -> None:
        """Release threads and files, without waiting for logins under way."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._guard.close()

    async def _log_in(self, credentials: Credentials, fingerprint: bytes) -> Identity:
        loop = asyncio.get_running_loop()
        try:
            known = await loop.run_in_executor(self._threads, self._keystone.authenticate, credentials)
        except NotAuthenticated as error:
            wait = self._guard.add(fingerprint, self._fingerprints.of_name(credentials.name))
            raise NotAuthenticated(str(error), next_step=_NOT_AGAIN.format(_duration(wait))) from None
        self._cache[fingerprint] = known
        self._guard.forget_names(self._names(credentials, known.identity))
        return known.identity

    def _names(self, credentials: Credentials, identity: Identity) -> set[bytes]:
        """Return the fingerprints of the names whose refusals this login ends."""
        # all tokens have the empty name, so a valid one must not end the refusals of others
        names = {credentials.name} if credentials.name else set()
        # only a password resets Keystone's counter of the user's failed logins
        if credentials.kind == "password":
            names.add(identity.name)
        return {self._fingerprints.of_name(name) for name in names}

    def _finish(self, fingerprint: bytes, login: asyncio.Task[Identity]) -> None:
        self._logins.pop(fingerprint, None)
        # if all clients have left, nobody else retrieves the exception, and asyncio would log it
        if not login.cancelled():
            login.exception()


def _duration(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 100 else f"{round(minutes / 60)} h"
