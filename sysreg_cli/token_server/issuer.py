"""From credentials and the requested access to a signed token. Write tokens need the write lock."""

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
from sysreg_cli.tokens.signer import TokenSigner, write_token_lifetime
from sysreg_cli.tokens.write_lock import WriteLock


@dataclass(frozen=True, slots=True)
class Issued:
    """A token, what it allows, and for how many seconds the client may keep it."""

    token: str
    identity: Identity
    access: Sequence[Access]
    expires_in: int


class Issuer:
    """Decides and signs. All of it runs in one thread, as the write lock requires."""

    def __init__(
        self, settings: Settings, authenticator: Authenticator, signer: TokenSigner, write_lock: WriteLock
    ) -> None:
        self._service = settings.registry.address
        self._read_lifetime = settings.token_server.read_lifetime
        self._write_lifetime = settings.token_server.write_lifetime
        self._grants = Grants(settings.token_server)
        self._authenticator = authenticator
        self._signer = signer
        self._write_lock = write_lock
        self._gate = Gate(write_lock)

    def issue_at_once(self, credentials: Credentials, requested: Sequence[Access]) -> Issued | None:
        """Return a token with the allowed part of ``requested``.

        Return None if that has to wait: for Keystone, or because writes are held. Raises NotAuthenticated,
        NotAuthorized if the user can't use the registry at all, or Unavailable.
        """
        identity = self._authenticator.recall(credentials)
        return None if identity is None else self._issue(identity, requested)

    async def issue(
        self, credentials: Credentials, requested: Sequence[Access], *, client: str, wait: float
    ) -> Issued:
        """Do the same, but wait for Keystone, and for the write lock until ``wait`` seconds from now.

        ``client`` is the address from which the request came. Raises also what Authenticator.identify raises,
        and Unavailable if a collection holds the lock for longer.
        """
        deadline = asyncio.get_running_loop().time() + wait
        while True:
            # authenticates again, because the credentials may have been revoked meanwhile
            identity = await self._authenticator.identify(credentials, client)
            issued = self._issue(identity, requested)
            if issued is not None:
                return issued
            if not await self._gate.wait_until_open(deadline):
                raise Unavailable(
                    "the registry takes no changes while its garbage is collected",
                    next_step="pulls work; try again in a while",
                )

    @property
    def waiting(self) -> int:
        """The number of requests that wait for the write lock."""
        return self._gate.waiting

    @property
    def refusals(self) -> int:
        """The number of refused credentials that are remembered."""
        return self._authenticator.refusals

    @property
    def signing_key(self) -> str:
        """The fingerprint of the certificate whose key signs."""
        return self._signer.fingerprint

    def sign_with(self, signer: TokenSigner) -> None:
        """Replace the signer."""
        self._signer = signer

    def end_waits(self) -> None:
        """Answer all requests that wait for the write lock with 503, and let none wait: the server stops."""
        self._gate.close()

    def close(self) -> None:
        """Release threads and files."""
        self._authenticator.close()
        self._write_lock.close()

    def _issue(self, identity: Identity, requested: Sequence[Access]) -> Issued | None:
        """Return a token, or None while writes are held."""
        why = self._grants.why_no_login(identity)
        if why:
            raise NotAuthorized(why, next_step="ask for a user with such a name")
        access = self._grants.allowed(identity, requested)
        if not any(entry.writes for entry in access):
            return self._sign(identity, access, self._read_lifetime, self._read_lifetime)
        issue = self._write_lock.try_issue()
        if issue is None:
            return None
        with issue:
            lifetime = write_token_lifetime(self._write_lifetime)
            issued = self._sign(identity, access, lifetime, self._write_lifetime)
            self._write_lock.record()
        return issued

    def _sign(self, identity: Identity, access: Sequence[Access], lifetime: int, expires_in: int) -> Issued:
        token = self._signer.sign(identity.name, access, lifetime=lifetime, service=self._service)
        return Issued(token, identity, access, expires_in)
