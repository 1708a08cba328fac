"""From credentials to an identity: first from memory, else from Keystone, never twice at a time."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from sysreg_cli.errors import NotAuthenticated, Unavailable
from sysreg_cli.token_server.credentials import Credentials
from sysreg_cli.token_server.keystone import Authentication, refusal
from sysreg_cli.token_server.memory import AcceptedPairs, Fingerprints, RefusedPairs
from sysreg_cli.tokens.grants import Identity

# Threads that ask Keystone. A password hash costs it a third of a second: more would only wait there.
THREADS = 16
# Different credentials on their way to Keystone; beyond that the caller is told to come back.
MOST_WAITING = 256
# Seconds a request waits for Keystone, whatever its own time limit: docker drops a token request after 15.
PATIENCE = 13.0

# How long a refused pair is not tried again, and what ends that: docker and `system` show it to people.
_NOT_AGAIN = "not tried again for {}, or until a right login or `systemctl reload sysreg-token-server`"


class IdentityService(Protocol):
    """What the authenticator needs of Keystone."""

    def authenticate(self, credentials: Credentials) -> Authentication: ...


class Authenticator:
    """Asks Keystone about a pair once, however many requests carry it."""

    def __init__(
        self,
        keystone: IdentityService,
        fingerprints: Fingerprints,
        accepted: AcceptedPairs,
        refused: RefusedPairs,
    ) -> None:
        self._keystone = keystone
        self._fingerprints = fingerprints
        self._accepted = accepted
        self._refused = refused
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="keystone")
        self._under_way: dict[bytes, asyncio.Task[Identity]] = {}

    async def identify(self, credentials: Credentials) -> Identity:
        """Who this is. Raises NotAuthenticated if Keystone refuses or refused it, or Unavailable."""
        pair = self._fingerprints.of_pair(credentials)
        identity = self._accepted.get(pair)
        if identity is not None:
            return identity
        left = self._refused.seconds_left(pair)
        if left > 0:
            raise NotAuthenticated(refusal(credentials), next_step=_NOT_AGAIN.format(_duration(left)))
        task = self._under_way.get(pair)
        if task is None:
            if len(self._under_way) >= MOST_WAITING:
                raise Unavailable(
                    "too many logins are waiting for Keystone", next_step="try again in a while"
                )
            task = asyncio.create_task(self._ask(credentials, pair))
            self._under_way[pair] = task
            task.add_done_callback(lambda done: self._finish(pair, done))
        # A client that leaves, or is sent away, must not cancel it for the others.
        try:
            return await asyncio.wait_for(asyncio.shield(task), PATIENCE)
        except TimeoutError:
            raise Unavailable(
                f"Keystone has not answered within {PATIENCE:.0f} s", next_step="try again in a while"
            ) from None

    def forget_refusals(self) -> None:
        """Ask Keystone again about every pair that it refused."""
        self._refused.clear()

    def close(self) -> None:
        """Stop asking; what is under way is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._refused.close()

    async def _ask(self, credentials: Credentials, pair: bytes) -> Identity:
        loop = asyncio.get_running_loop()
        try:
            answer = await loop.run_in_executor(self._threads, self._keystone.authenticate, credentials)
        except NotAuthenticated as error:
            wait = self._refused.add(pair, self._fingerprints.of_name(credentials.name))
            raise NotAuthenticated(
                "; ".join(filter(None, (error.message, error.next_step))),
                next_step=_NOT_AGAIN.format(_duration(wait)),
            ) from None
        self._accepted.add(pair, answer.identity, answer.lifetime)
        # A token names nobody: what is filed under no name are the refused tokens of everybody.
        names = {self._fingerprints.of_name(credentials.name)} if credentials.name else set()
        # Only a password sets back Keystone's counter of failed logins.
        if credentials.kind == "password":
            names.add(self._fingerprints.of_name(answer.identity.name))
        self._refused.forget_names(names)
        return answer.identity

    def _finish(self, pair: bytes, task: asyncio.Task[Identity]) -> None:
        self._under_way.pop(pair, None)
        # Everybody who asked may have left: the outcome counts as seen.
        if not task.cancelled():
            task.exception()


def _duration(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    if minutes < 100:
        return f"{minutes} min"
    return f"{round(minutes / 60)} h"
