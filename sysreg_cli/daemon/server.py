"""Serving with uvicorn: its configuration, signals, and what systemd is told."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import uvicorn

from sysreg_cli.daemon.accepting import Acceptor, ConnectionLimits
from sysreg_cli.daemon.limits import GuardedProtocol
from sysreg_cli.daemon.listeners import BACKLOG
from sysreg_cli.daemon.memory import give_back
from sysreg_cli.daemon.systemd import notify, watchdog_interval
from sysreg_cli.daemon.tls import ServerTLS

# Seconds after which a stopping server drops connections whose client doesn't answer the end of TLS.
_CLOSE_SECONDS = 0.5


def configuration(
    application: Any,
    *,
    stop_seconds: int,
    tls: ServerTLS | None = None,
    protocol: type[GuardedProtocol] = GuardedProtocol,
    idle_seconds: int = 5,
) -> uvicorn.Config:
    """Return the configuration of one listener.

    uvicorn closes a connection that is idle for ``idle_seconds``. When it stops, it gives requests under way
    ``stop_seconds``.
    """
    config = uvicorn.Config(
        application,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=idle_seconds,
        timeout_graceful_shutdown=stop_seconds,
        backlog=BACKLOG,
    )
    config.load()
    config.ssl = tls.context if tls else None
    return config


@dataclass(frozen=True)
class Listener:
    """A socket that listens, how its requests are served, and how many connections it may have."""

    socket: socket.socket
    config: uvicorn.Config
    limits: ConnectionLimits


def _nothing() -> None: ...


async def serve(
    listeners: Sequence[Listener],
    *,
    on_ready: Callable[[], None] = _nothing,
    on_reload: Callable[[], None] = _nothing,
    on_stop: Callable[[], object] = _nothing,
) -> None:
    """Serve until SIGTERM or SIGINT, then let requests under way end. SIGHUP calls ``on_reload``.

    systemd learns when the daemon accepts connections, that it lives, and when it stops.
    """
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, on_reload)
    servers = [Server(listener) for listener in listeners]
    async with asyncio.TaskGroup() as group:
        serving = [group.create_task(server.serve()) for server in servers]
        for server in servers:
            await server.listening.wait()
        notify("READY=1")
        on_ready()
        background = [group.create_task(task) for task in (_beat(), give_back())]
        await stopping.wait()
        notify("STOPPING=1")
        on_stop()
        for server in servers:
            server.should_exit = True
        await asyncio.wait(serving)
        for task in background:
            task.cancel()


class Server(uvicorn.Server):
    """uvicorn's server for one listener, which accepts by itself (daemon/accepting.py).

    It has no signal handlers: who runs it sets ``should_exit``.
    """

    def __init__(self, listener: Listener) -> None:
        super().__init__(listener.config)
        self._listener = listener
        #: set once it accepts connections
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # with no sockets, because it would let asyncio accept their connections
        await super().startup([])
        protocol = partial(
            cast("type[GuardedProtocol]", self.config.http_protocol_class),
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        listener = self._listener
        acceptor = Acceptor(listener.socket, protocol, listener.limits, self.config.ssl)
        self.servers = [cast("asyncio.Server", acceptor)]
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().call_later(_CLOSE_SECONDS, self._drop_closing)
        await super().shutdown([self._listener.socket])

    def _drop_closing(self) -> None:
        for connection in list(self.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None and transport.is_closing():
                transport.abort()


async def _beat() -> None:
    """Send systemd signs of life. It restarts a daemon whose event loop hangs."""
    while interval := watchdog_interval():
        notify("WATCHDOG=1")
        await asyncio.sleep(interval)
