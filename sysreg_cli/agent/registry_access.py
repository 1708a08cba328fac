"""The agent as a client of the registry: it signs its own tokens, and trusts exactly the live certificate.

It does not need Keystone. Like the token server, it issues a write token only with the write lock
(docs/contracts.rst, "Garbage collection").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from sysreg_cli.agent.write_permit import write_permit
from sysreg_cli.registry.challenge import Challenge
from sysreg_cli.registry.client import RegistryClient
from sysreg_cli.registry.transport import Transport
from sysreg_cli.registry.trust import client_context
from sysreg_cli.settings import Settings
from sysreg_cli.tokens.access import Access
from sysreg_cli.tokens.signer import TokenSigner, write_token_lifetime

# Seconds. The registry is on this host, so a longer silence is a failure.
_TIMEOUT = 30.0


class OwnTokens:
    """Signs the tokens that the registry client needs, and keeps them for one call of the API.

    ``has_permit``: the caller holds a permit of the write lock as long as it uses the tokens. Then no
    collection has to wait for their end.
    """

    def __init__(self, settings: Settings, *, has_permit: bool = False) -> None:
        self._settings = settings
        self._has_permit = has_permit
        self._signer = TokenSigner.load(settings)
        self._tokens: dict[tuple[Access, ...], str] = {}

    def token(self, challenge: Challenge, access: Sequence[Access], *, fresh: bool = False) -> str:
        """Return a token for ``access``. Raises Unavailable for a write token while a collection runs."""
        key = tuple(access)
        if fresh or key not in self._tokens:
            lifetimes = self._settings.token_server
            if any(entry.writes for entry in access):
                self._tokens[key] = self._sign_write(access, write_token_lifetime(lifetimes.write_lifetime))
            else:
                self._tokens[key] = self._sign(access, lifetimes.read_lifetime)
        return self._tokens[key]

    def _sign_write(self, access: Sequence[Access], lifetime: int) -> str:
        if self._has_permit:
            return self._sign(access, lifetime)
        with write_permit(self._settings) as write_lock:
            write_lock.record()
            return self._sign(access, lifetime)

    def _sign(self, access: Sequence[Access], lifetime: int) -> str:
        service = self._settings.registry.address
        return self._signer.sign("sysreg-agent", access, lifetime=lifetime, service=service)


@contextmanager
def local_registry(settings: Settings, *, has_permit: bool = False) -> Iterator[RegistryClient]:
    """Yield a client of the registry for one call of the API. ``has_permit`` as for OwnTokens.

    Raises SettingsError for a token-signing key that can't be used, CertificateNotTrusted for a certificate
    of the registry that can't be read.
    """
    context = client_context(str(settings.certificate.chain))
    with closing(Transport(settings.registry.base_url, context, timeout=_TIMEOUT)) as transport:
        yield RegistryClient(transport, OwnTokens(settings, has_permit=has_permit))
