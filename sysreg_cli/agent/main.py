"""``sysreg-agent``: recover, then serve the API on the unix socket, and on TLS where that is configured.

Runs as root. SIGTERM ends it after the calls under way; SIGHUP reads the TLS certificate again and forgets
what Keystone said about tokens. systemd may start it by socket activation, and watches it (Type=notify).
"""

from __future__ import annotations

import argparse
import asyncio
import grp
import logging
import os
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import uvicorn
from starlette.routing import BaseRoute

from sysreg_cli import __version__
from sysreg_cli import settings as settings_module
from sysreg_cli.addresses import HostPort
from sysreg_cli.agent import openapi, registry_image
from sysreg_cli.agent.app import build
from sysreg_cli.agent.certificate import api as certificate_api
from sysreg_cli.agent.certificate.reminder import remind
from sysreg_cli.agent.certificate.transaction import CertificateChange
from sysreg_cli.agent.context import AgentContext
from sysreg_cli.agent.garbage import api as garbage_api
from sysreg_cli.agent.identity import Authenticator, Peer
from sysreg_cli.daemon import systemd
from sysreg_cli.daemon.limits import GuardedProtocol, keep_alive
from sysreg_cli.daemon.server import Server, watchdog
from sysreg_cli.daemon.tls import ServerTLS
from sysreg_cli.errors import SettingsError, SysregError
from sysreg_cli.settings import Settings

log = logging.getLogger("sysreg.agent")

_BACKLOG = 128
_MOST_CONNECTIONS = 200
# seconds for calls under way when told to stop; an install that has to roll back takes the longest
_STOP_SECONDS = 200
# the same at the start, where an interrupted one may have to be undone
_RECOVERY_SECONDS = 600
_THREADS = 32


class PeerProtocol(GuardedProtocol):
    """Puts who is at the other end of a unix socket into each request's ``state.peer``."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        connection: socket.socket = transport.get_extra_info("socket")
        if connection.family == socket.AF_UNIX:
            raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            self.app_state = {**self.app_state, "peer": Peer(*struct.unpack("3i", raw))}
        super().connection_made(transport)


def parser() -> argparse.ArgumentParser:
    """The options of the console script."""
    found = argparse.ArgumentParser(
        prog="sysreg-agent",
        description="Install certificates and collect garbage for the local Docker registry.",
        epilog="Settings: /etc/sysreg/sysreg.conf, or the file named by SYSREG_CONF. SIGHUP reads the TLS"
        " certificate again.",
    )
    found.add_argument(
        "--version", action="version", version=f"%(prog)s {__version__}", help="show the version and exit"
    )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the agent. Returns the exit status: 0 stopped on request, 1 could not start."""
    parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stderr)
    # uvicorn's start and stop lines add nothing to systemd's
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    os.umask(0o022)
    try:
        asyncio.run(_serve(settings_module.load()))
    except SettingsError as error:
        for problem in error.problems:
            log.error("%s", problem)
        return 1
    except (SysregError, OSError) as error:
        log.error("cannot start: %s", error)
        return 1
    return 0


async def _serve(settings: Settings) -> None:
    settings.paths.state.mkdir(mode=0o755, parents=True, exist_ok=True)
    activated = systemd.activated_sockets()
    # calls wait here for Keystone, for locks and for services, so there are more than the default of six
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
    change = CertificateChange(settings)
    systemd.notify(f"EXTEND_TIMEOUT_USEC={_RECOVERY_SECONDS * 1_000_000}")
    await asyncio.to_thread(_recover, change)
    tls = change.own_tls = _listener_tls(settings)
    context = AgentContext(settings, Authenticator(settings.keystone), tls)
    application = build(context, _routes(context, change))

    def server(**options: Any) -> Server:
        return Server(
            uvicorn.Config(
                application,
                http=PeerProtocol,
                loop="asyncio",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=_MOST_CONNECTIONS,
                timeout_graceful_shutdown=_STOP_SECONDS,
                **options,
            )
        )

    running: list[tuple[Server, socket.socket]] = [
        (server(), listener)
        for listener in activated or [unix_listener(settings.agent.socket, settings.agent.group)]
    ]
    if tls is not None and settings.agent.listen is not None:
        listener = _tcp_listener(settings.agent.listen)
        running.append((server(ssl_context_factory=lambda _config, _default: tls.context), listener))

    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, _reload, context)
    tasks = [asyncio.create_task(one.serve(sockets=[listener])) for one, listener in running]
    for one, _ in running:
        await one.listening.wait()
    systemd.notify("READY=1")
    reminder = asyncio.create_task(remind(settings.certificate))
    async with watchdog():
        await stopping.wait()
        reminder.cancel()
        systemd.notify("STOPPING=1")
        for one, _ in running:
            one.should_exit = True
        await asyncio.gather(*tasks)
    if not activated:
        settings.agent.socket.unlink(missing_ok=True)


def _listener_tls(settings: Settings) -> ServerTLS | None:
    if settings.agent.listen is None:
        return None
    return ServerTLS(settings.certificate.chain, settings.certificate.key)


def _tcp_listener(address: HostPort) -> socket.socket:
    listener = socket.create_server(
        (address.host, address.port),
        family=socket.AF_INET6 if ":" in address.host else socket.AF_INET,
        backlog=_BACKLOG,
    )
    keep_alive(listener)
    listener.setblocking(False)
    return listener


def unix_listener(path: Path, group: str) -> socket.socket:
    """A listening unix socket that only root and ``group`` can connect to, from its first moment on.

    Raises SysregError when the group doesn't exist, OSError when the path can't be used.
    """
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError:
        raise SysregError(
            f"the unix group {group} (group in section [agent]) does not exist", next_step="run sysreg-deploy"
        ) from None
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    # bound under another name, so that nobody can reach it before owner and mode are right
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.bind(str(temporary))
        os.chown(temporary, os.geteuid(), gid)
        temporary.chmod(0o660)
        listener.listen(_BACKLOG)
        temporary.rename(path)
    except OSError:
        listener.close()
        temporary.unlink(missing_ok=True)
        raise
    listener.setblocking(False)
    return listener


def _routes(context: AgentContext, change: CertificateChange) -> list[BaseRoute]:
    return [
        *certificate_api.routes(context, change),
        *garbage_api.routes(context),
        *registry_image.routes(context),
        *openapi.routes(),
    ]


def _recover(change: CertificateChange) -> None:
    """Finish what the last agent was killed in, before any call is accepted."""
    try:
        change.recover()
    except SysregError as error:
        # an install may be what mends it, so the agent serves all the same
        log.error("%s", error)


def _reload(context: AgentContext) -> None:
    context.authenticator.forget()
    if context.tls is not None:
        try:
            context.tls.reload()
        except OSError as error:
            log.error("the TLS certificate cannot be read again, the old one stays: %s", error)


if __name__ == "__main__":
    sys.exit(main())
