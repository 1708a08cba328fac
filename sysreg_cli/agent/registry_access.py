"""The agent as a client of the registry: tokens of its own signing, trust in exactly the live certificate.

Needs no Keystone. A token that may write passes the write lock, as the token server's do
(docs/contracts.rst, "Garbage collection").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from sysreg_cli.errors import Unavailable
from sysreg_cli.registry.challenge import Challenge
from sysreg_cli.registry.client import RegistryClient
from sysreg_cli.registry.transport import Transport
from sysreg_cli.registry.trust import client_context
from sysreg_cli.settings import Settings
from sysreg_cli.tokens.access import Access
from sysreg_cli.tokens.signer import TokenSigner, write_token_lifetime
from sysreg_cli.tokens.write_lock import WriteLock

_SUBJECT = "sysreg-agent"
# The registry is on this machine: silence for this many seconds is a failure.
_TIMEOUT = 30.0


class OwnTokens:
    """Signs what the registry client asks for; keeps each token for as long as one call of the API lasts."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._signer = TokenSigner.load(settings)
        self._tokens: dict[tuple[Access, ...], str] = {}

    def token(self, challenge: Challenge, access: Sequence[Access], *, fresh: bool = False) -> str:
        """A token for all of ``access``. Raises Unavailable for a write token while a collection runs."""
        key = tuple(access)
        if fresh or key not in self._tokens:
            writes = any(entry.writes for entry in access)
            self._tokens[key] = self._write(access) if writes else self._read(access)
        return self._tokens[key]

    def _read(self, access: Sequence[Access]) -> str:
        return self._sign(access, self._settings.token_server.read_lifetime)

    def _write(self, access: Sequence[Access]) -> str:
        write_lock = WriteLock(self._settings.paths.state)
        try:
            issue = write_lock.try_issue()
            if issue is None:
                raise Unavailable(
                    "the registry takes no changes while a garbage collection runs",
                    next_step="try again later",
                )
            with issue:
                write_lock.record()
                return self._sign(access, write_token_lifetime(self._settings.token_server.write_lifetime))
        finally:
            write_lock.close()

    def _sign(self, access: Sequence[Access], lifetime: int) -> str:
        service = self._settings.registry.address
        return self._signer.sign(_SUBJECT, access, lifetime=lifetime, service=service)


@contextmanager
def open_registry(settings: Settings) -> Iterator[RegistryClient]:
    """The registry's client for one call of the API; its connections are closed in the end.

    Raises SettingsError for a token-signing key that can't be used, CertificateNotTrusted for an unreadable
    certificate of the registry.
    """
    context = client_context(str(settings.certificate.chain))
    with closing(Transport(settings.registry.base_url, context, timeout=_TIMEOUT)) as transport:
        yield RegistryClient(transport, OwnTokens(settings))
