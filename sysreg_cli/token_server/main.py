"""``sysreg-token-server``: put the parts together and serve until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvicorn
import uvloop

from sysreg_cli import __version__, settings
from sysreg_cli.daemon.limits import GuardedProtocol, keep_alive
from sysreg_cli.daemon.server import Server, watchdog
from sysreg_cli.daemon.systemd import notify
from sysreg_cli.daemon.tls import ServerTLS
from sysreg_cli.errors import SettingsError, SysregError, Unavailable
from sysreg_cli.token_server.app import TokenApp
from sysreg_cli.token_server.authenticator import THREADS, Authenticator
from sysreg_cli.token_server.decision_log import DecisionLog
from sysreg_cli.token_server.issuer import Issuer
from sysreg_cli.token_server.keystone import Keystone
from sysreg_cli.token_server.memory import AcceptedPairs, Fingerprints, RefusedPairs
from sysreg_cli.tokens.signer import TokenSigner
from sysreg_cli.tokens.write_lock import WriteLock

log = logging.getLogger("sysreg.token_server")

# Connections at a time; held requests are among them. Beyond it uvicorn answers 503 at once.
_MOST_CONNECTIONS = 4096
_STOP_SECONDS = 5
_CLOSE_SECONDS = 0.5


class TokenServer(Server):
    """SIGHUP reloads, SIGTERM and SIGINT stop and end with status 0."""

    def __init__(self, config: uvicorn.Config, parts: Parts) -> None:
        super().__init__(config)
        self._parts = parts

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        yield

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        async with watchdog():
            await super().serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        notify("READY=1")
        log.info("serving tokens for %s", self._parts.service)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().call_later(_CLOSE_SECONDS, self._drop_closing)
        await super().shutdown(sockets)

    def _drop_closing(self) -> None:
        """A client that is idle may never answer the end of TLS; nobody waits for that."""
        for connection in list(self.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None and transport.is_closing():
                transport.abort()

    def _reload(self) -> None:
        """Take the certificate and the signing key that are current now, and forget refused logins.

        What cannot be read stays as it was.
        """
        self._parts.authenticator.forget_refusals()
        kept = []
        try:
            self._parts.tls.reload()
        except OSError as error:
            kept.append(f"the certificate in use stays: {error}")
        try:
            self._parts.issuer.sign_with(TokenSigner.load(self._parts.configuration))
        except SettingsError as error:
            kept.append(f"the token-signing key in use stays: {'; '.join(error.problems)}")
        if kept:
            log.error("refused logins forgotten, but %s", "; ".join(kept))
        else:
            log.info("reloaded: certificate and token-signing key read, refused logins forgotten")

    def _stop(self) -> None:
        notify("STOPPING=1")
        self.should_exit = True
        self._parts.issuer.send_away()


class Parts:
    """Everything that the settings decide, built once."""

    def __init__(self, configuration: settings.Settings) -> None:
        self.configuration = configuration
        state = configuration.paths.state / "token-server"
        self.tls = _certificate(configuration.certificate.directory / "current")
        self.service = configuration.registry.address
        signer = TokenSigner.load(configuration)
        keystone = Keystone(configuration.keystone, connections=THREADS)
        try:
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.authenticator = Authenticator(
                keystone,
                Fingerprints(state),
                AcceptedPairs(configuration.token_server.cache_ttl),
                RefusedPairs(state),
            )
        except OSError as error:
            raise Unavailable(
                f"{error.filename or state}: {error.strerror}", next_step="run sysreg-deploy as root"
            ) from None
        self.issuer = Issuer(configuration, self.authenticator, signer, WriteLock(configuration.paths.state))
        self.decisions = DecisionLog(sys.stderr.buffer)
        self.app = TokenApp(self.issuer, self.service, self.decisions)


def parser() -> argparse.ArgumentParser:
    """The options of the console script."""
    found = argparse.ArgumentParser(
        prog="sysreg-token-server",
        description="Issue tokens of the local Docker registry to Keystone users.",
        epilog="Settings: /etc/sysreg/sysreg.conf, or the file named by SYSREG_CONF. SIGHUP reloads the TLS"
        " certificate and the token-signing key, and forgets refused logins.",
    )
    found.add_argument(
        "--version", action="version", version=f"%(prog)s {__version__}", help="show the version and exit"
    )
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script: exit status 0 after SIGTERM, 1 with one line if it can't start."""
    parser().parse_args(arguments)
    # Ours alone, whatever the caller's umask: the database of refused logins makes files of its own.
    os.umask(0o077)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for chatty in ("keystoneauth", "urllib3", "uvicorn", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    _allow_connections()
    try:
        configuration = settings.load()
        parts = Parts(configuration)
        config = uvicorn.Config(
            parts.app,
            http=GuardedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=_STOP_SECONDS,
            backlog=1024,
        )
        config.load()
        config.ssl = parts.tls.context
        listener = _listen(configuration.token_server.listen, configuration.token_server.port)
    except SysregError as error:
        sys.exit(f"sysreg-token-server: {error}")
    uvloop.run(TokenServer(config, parts).serve(sockets=[listener]))
    parts.decisions.flush()
    parts.issuer.close()


def _certificate(directory: Path) -> ServerTLS:
    """The TLS of the key and chain in ``directory``. Raises SettingsError if they are unfit."""
    chain, key = directory / "server.crt", directory / "server.key"
    try:
        return ServerTLS(chain, key)
    except OSError as error:
        raise SettingsError(
            "no TLS certificate",
            [f"{chain}, {key}: {error.strerror or error}"],
            next_step="run sysreg-deploy",
        ) from None


def _listen(host: str, port: int) -> socket.socket:
    every = not host
    try:
        listener = socket.create_server(
            (host, port),
            family=socket.AF_INET6
            if ":" in host or (every and socket.has_dualstack_ipv6())
            else socket.AF_INET,
            dualstack_ipv6=every and socket.has_dualstack_ipv6(),
            backlog=1024,
        )
    except OSError as error:
        raise Unavailable(f"can't listen on {host or '*'}:{port}: {error.strerror}") from None
    keep_alive(listener)
    return listener


def _allow_connections() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_CONNECTIONS + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
