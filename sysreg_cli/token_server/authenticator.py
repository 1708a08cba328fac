"""From credentials to an identity: the cache knows it, else Keystone does.

Keystone takes a third of a second for a password, so somebody without an account must not fill it with wrong
ones. Clients take turns (daemon/fair_threads.py), and a client whose credentials Keystone refuses has a
budget of refusals.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from cachetools import LRUCache

from sysreg_cli.addresses import network_of
from sysreg_cli.daemon.buckets import Buckets
from sysreg_cli.daemon.fair_threads import Call, FairThreads
from sysreg_cli.errors import NotAuthenticated, TooManyRequests, Unavailable
from sysreg_cli.token_server.credential_cache import CredentialCache, Fingerprints
from sysreg_cli.token_server.credentials import Credentials
from sysreg_cli.token_server.keystone import Authentication, refusal
from sysreg_cli.token_server.lockout_guard import LockoutGuard
from sysreg_cli.tokens.grants import Identity

# Threads that ask Keystone. It hashes a password for a third of a second; more threads would only wait there.
THREADS = 16
# of these, for credentials that Keystone accepted before
_RESERVED = 4
# of one client at the same time: a Keystone with one worker keeps the next client waiting for so many hashes
_FOR_CLIENT = 2
# What a client may have refused: a person's mistakes, and all stale pull secrets of a node after a restart
_REFUSALS, _REFUSALS_PER_SECOND = 30, 1 / 6
_MAX_PROVEN = 10_000

_NOT_AGAIN = "not tried again for {}, or until a right login or `systemctl reload sysreg-token-server`"


class IdentityService(Protocol):
    """What the authenticator needs of Keystone."""

    def authenticate(self, credentials: Credentials) -> Authentication: ...


@dataclass(eq=False, slots=True)
class _Login:
    """A question to Keystone, and how many requests wait for the answer."""

    call: Call[Authentication]
    task: asyncio.Task[Identity]
    waiting: int = 0


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
        self._threads = FairThreads("keystone", threads=THREADS, reserved=_RESERVED, for_client=_FOR_CLIENT)
        self._refusals = Buckets(_REFUSALS_PER_SECOND, _REFUSALS)
        # Fingerprints that Keystone accepted once. They go first, but Keystone is asked again.
        self._proven: LRUCache[bytes, None] = LRUCache(_MAX_PROVEN)
        self._logins: dict[bytes, _Login] = {}

    def recall(self, credentials: Credentials) -> Identity | None:
        """Return the owner of ``credentials``, or None if Keystone has to be asked.

        Raises NotAuthenticated if Keystone refused them lately.
        """
        fingerprint = self._fingerprints.of_credentials(credentials)
        try:
            return self._cache[fingerprint].identity
        except KeyError:
            left = self._guard.seconds_left(fingerprint)
        if left > 0:
            raise NotAuthenticated(refusal(credentials), next_step=_NOT_AGAIN.format(_duration(left)))
        return None

    async def identify(self, credentials: Credentials, client: str) -> Identity:
        """Return the owner of ``credentials``, which came from the address ``client``.

        Raises NotAuthenticated if Keystone refuses or refused them, TooManyRequests if it refused too many of
        this client, Unavailable if it gives no response. If the last request that waits is cancelled before
        its turn, Keystone isn't asked.
        """
        identity = self.recall(credentials)
        if identity is not None:
            return identity
        fingerprint = self._fingerprints.of_credentials(credentials)
        network = network_of(client)
        login = self._logins.get(fingerprint)
        if login is None:
            login = self._begin(credentials, fingerprint, network)
        else:
            self._threads.join(login.call, network)
        return await self._wait(login, fingerprint)

    @property
    def refusals(self) -> int:
        """The number of credentials that Keystone refused, and that are remembered."""
        return len(self._guard)

    def forget_refusals(self) -> None:
        """Ask Keystone again about all credentials that it refused."""
        self._guard.clear()
        self._refusals.clear()

    def close(self) -> None:
        """Release threads and files, without waiting for logins under way."""
        self._threads.close()
        self._guard.close()

    def _begin(self, credentials: Credentials, fingerprint: bytes, network: str) -> _Login:
        proven = fingerprint in self._proven
        if not proven and (wait := self._refusals.wait(network)):
            raise TooManyRequests(
                f"Keystone refused too many logins from {network}",
                next_step=f"try again in {math.ceil(wait)} s",
            )
        ask = partial(self._keystone.authenticate, credentials)
        call = self._threads.submit(ask, network, urgent=proven)
        task = asyncio.create_task(self._log_in(call, credentials, fingerprint, network))
        login = self._logins[fingerprint] = _Login(call, task)
        task.add_done_callback(partial(self._finish, fingerprint, login))
        return login

    async def _wait(self, login: _Login, fingerprint: bytes) -> Identity:
        """Wait for ``login``. A client that leaves, or waited too long, must not cancel it for others."""
        login.waiting += 1
        try:
            return await asyncio.wait_for(asyncio.shield(login.task), self._max_wait)
        except TimeoutError:
            raise Unavailable(
                f"Keystone has not answered within {self._max_wait:.0f} s", next_step="try again in a while"
            ) from None
        finally:
            login.waiting -= 1
            if not login.waiting and self._threads.drop(login.call):
                del self._logins[fingerprint]

    async def _log_in(
        self, call: Call[Authentication], credentials: Credentials, fingerprint: bytes, network: str
    ) -> Identity:
        try:
            known = await call.result
        except NotAuthenticated as error:
            self._refusals.take(network)
            self._proven.pop(fingerprint, None)
            wait = self._guard.add(
                fingerprint,
                self._fingerprints.of_name(credentials.name),
                self._fingerprints.of_client(network),
            )
            raise NotAuthenticated(str(error), next_step=_NOT_AGAIN.format(_duration(wait))) from None
        self._cache[fingerprint] = known
        # a user can have any number of tokens, which would push out the others
        if credentials.kind != "token":
            self._proven[fingerprint] = None
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

    def _finish(self, fingerprint: bytes, login: _Login, task: asyncio.Task[Identity]) -> None:
        if self._logins.get(fingerprint) is login:
            del self._logins[fingerprint]
        # if all clients have left, nobody else retrieves the exception, and asyncio would log it
        if not task.cancelled():
            task.exception()


def _duration(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 100 else f"{round(minutes / 60)} h"
