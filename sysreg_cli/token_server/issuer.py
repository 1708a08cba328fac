"""From an identity and what it asks for to a signed token, past the write lock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from sysreg_cli.errors import NotAuthorized, Unavailable
from sysreg_cli.settings import Settings
from sysreg_cli.token_server.authenticator import Authenticator
from sysreg_cli.token_server.credentials import Credentials
from sysreg_cli.token_server.gate import Gate
from sysreg_cli.tokens.access import Access
from sysreg_cli.tokens.grants import Grants, Identity
from sysreg_cli.tokens.scope import Scope
from sysreg_cli.tokens.signer import TokenSigner, write_token_lifetime
from sysreg_cli.tokens.write_lock import WriteLock


class WritesHeld(Unavailable):
    """A collection held the write lock for longer than this client waits."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A token, what it allows, and for how many seconds the client may keep it."""

    token: str
    identity: Identity
    access: Sequence[Access]
    expires_in: int


class Issuer:
    """Decides and signs. All of it runs in one thread, as the write lock asks."""

    def __init__(
        self, settings: Settings, authenticator: Authenticator, signer: TokenSigner, write_lock: WriteLock
    ) -> None:
        ours = settings.token_server
        self._service = settings.registry.address
        self._read_lifetime = ours.read_lifetime
        self._write_lifetime = ours.write_lifetime
        self._grants = Grants(ours)
        self._authenticator = authenticator
        self._signer = signer
        self._write_lock = write_lock
        self._gate = Gate(write_lock)

    async def issue(self, credentials: Credentials, scopes: Sequence[Scope]) -> Issued | None:
        """A token with the allowed part of ``scopes``, or None while writes are held.

        Raises NotAuthenticated, NotAuthorized if the user can't use the registry at all, or Unavailable.
        """
        identity = await self._authenticator.identify(credentials)
        why = self._grants.why_no_login(identity)
        if why:
            raise NotAuthorized(why, next_step="ask for a user with such a name")
        access = self._grants.allowed(identity, scopes)
        if not any(one.writes for one in access):
            return self._sign(identity, access, self._read_lifetime, self._read_lifetime)
        right = self._write_lock.try_issue()
        if right is None:
            return None
        with right:
            issued = self._sign(
                identity, access, write_token_lifetime(self._write_lifetime), self._write_lifetime
            )
            self._write_lock.record()
        return issued

    async def issue_when_open(self, credentials: Credentials, scopes: Sequence[Scope], wait: float) -> Issued:
        """As ``issue``, but waits up to ``wait`` seconds for the write lock; then raises WritesHeld."""
        deadline = asyncio.get_running_loop().time() + wait
        while True:
            # The credentials are judged again: they may have been revoked meanwhile.
            issued = await self.issue(credentials, scopes)
            if issued is not None:
                return issued
            if not await self._gate.wait_until_open(deadline):
                raise WritesHeld(
                    "the registry takes no changes while its garbage is collected",
                    next_step="pulls work; try again in a while",
                )

    @property
    def waiting(self) -> int:
        """Requests that wait for the write lock."""
        return self._gate.waiting

    @property
    def signing_key(self) -> str:
        """Fingerprint of the certificate whose key signs now."""
        return self._signer.fingerprint

    def sign_with(self, signer: TokenSigner) -> None:
        """Sign every token from now on with another key."""
        self._signer = signer

    def send_away(self) -> None:
        """Answer all who wait for the write lock, and let nobody wait any more: the server stops."""
        self._gate.close()

    def close(self) -> None:
        """Give up threads and files."""
        self._authenticator.close()
        self._write_lock.close()

    def _sign(self, identity: Identity, access: Sequence[Access], lifetime: int, expires_in: int) -> Issued:
        token = self._signer.sign(identity.name, access, lifetime=lifetime, service=self._service)
        return Issued(token, identity, access, expires_in)
