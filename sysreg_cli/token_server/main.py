"""``sysreg-token-server``: puts the components together and serves until SIGTERM.

SIGHUP reads the TLS certificate and the token-signing key again, and forgets refused logins.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

import uvloop

from sysreg_cli.addresses import HostPort
from sysreg_cli.daemon import program, server
from sysreg_cli.daemon.accepting import ConnectionLimits, reserve_descriptors
from sysreg_cli.daemon.listeners import tcp_listener
from sysreg_cli.daemon.tls import load_server_tls
from sysreg_cli.errors import SettingsError, Unavailable
from sysreg_cli.settings import Settings
from sysreg_cli.token_server.app import TokenApp
from sysreg_cli.token_server.authenticator import THREADS, Authenticator
from sysreg_cli.token_server.credential_cache import CredentialCache, Fingerprints
from sysreg_cli.token_server.decision_log import DecisionLog
from sysreg_cli.token_server.issuer import Issuer
from sysreg_cli.token_server.keystone import Keystone
from sysreg_cli.token_server.lockout_guard import LockoutGuard
from sysreg_cli.tokens.signer import TokenSigner
from sysreg_cli.tokens.write_lock import WriteLock

log = logging.getLogger("sysreg.token_server")

_PROGRAM = "sysreg-token-server"
#: connections; those of held requests count, too
LIMITS = ConnectionLimits(total=2048, for_client=256)
_STOP_SECONDS = 5
_IDLE_SECONDS = 30


class Components:
    """What the settings determine. Built once, at the start."""

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError, and Unavailable if the directory for the state can't be used."""
        self._settings = settings
        self.tls = load_server_tls(settings.certificate)
        signer = TokenSigner.load(settings)
        keystone = Keystone(settings.keystone, connections=THREADS)
        state = settings.paths.state / "token-server"
        try:
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._authenticator = Authenticator(
                keystone,
                Fingerprints(state),
                CredentialCache(settings.token_server.cache_ttl),
                LockoutGuard(state / "refused.db"),
            )
        except OSError as error:
            raise Unavailable(
                f"{error.filename or state}: {error.strerror}", next_step="run sysreg-deploy as root"
            ) from None
        self.issuer = Issuer(settings, self._authenticator, signer, WriteLock(settings.paths.state))
        self._decisions = DecisionLog(sys.stderr.buffer)
        self.app = TokenApp(self.issuer, settings.registry.address, self._decisions)

    def reload(self) -> None:
        """Load the current certificate and signing key, and forget refused logins.

        What can't be read stays as it was.
        """
        self._authenticator.forget_refusals()
        kept = []
        try:
            self.tls.reload()
        except OSError as error:
            kept.append(f"the certificate in use stays: {error}")
        try:
            self.issuer.sign_with(TokenSigner.load(self._settings))
        except SettingsError as error:
            kept.append(f"the token-signing key in use stays: {'; '.join(error.problems)}")
        if kept:
            log.error("refused logins forgotten, but %s", "; ".join(kept))
        else:
            log.info("reloaded: certificate and token-signing key read, refused logins forgotten")

    def close(self) -> None:
        """Write the last decisions, and release threads and files."""
        self._decisions.close()
        self.issuer.close()


def parser() -> argparse.ArgumentParser:
    """Return the options of the console script."""
    return program.parser(
        _PROGRAM,
        "Issue tokens of the local Docker registry to Keystone users.",
        on_sighup="reloads the TLS certificate and the token-signing key, and forgets refused logins",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the token server. Return the exit status: 0 after SIGTERM, 1 if it can't start."""
    parser().parse_args(arguments)
    # SQLite creates files of its own beside its database
    os.umask(0o077)
    program.log_to_stderr("%(message)s")
    return program.run(_PROGRAM, lambda settings: uvloop.run(_serve(settings)))


async def _serve(settings: Settings) -> None:
    components = Components(settings)
    config = server.configuration(
        components.app,
        stop_seconds=_STOP_SECONDS,
        idle_seconds=_IDLE_SECONDS,
        tls=components.tls,
    )
    limits = ConnectionLimits(reserve_descriptors(LIMITS.total), LIMITS.for_client)
    listener = tcp_listener(HostPort(settings.token_server.listen, settings.token_server.port))
    await server.serve(
        [server.Listener(listener, config, limits)],
        on_ready=lambda: log.info("serving tokens for %s", settings.registry.address),
        on_reload=components.reload,
        on_stop=components.issuer.end_waits,
    )
    components.close()
