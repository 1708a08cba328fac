"""Accepting connections: only so many at the same time, of each client and in total.

asyncio accepts every connection, and tells nobody before TLS is set up. A client that connects and stays
silent would use up descriptors and memory that nothing counts. So this module accepts, counts, and then hands
the connection to the event loop. It resets a connection that is too many.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from sysreg_cli.addresses import network_of
from sysreg_cli.daemon.limits import GuardedProtocol

log = logging.getLogger("sysreg.daemon")

_HANDSHAKE_SECONDS = 10.0
# after a connection is closed, for the client's end of TLS
_TLS_END_SECONDS = 2.0
# connections that are accepted in one turn of the event loop
_BATCH = 64
_PAUSE_SECONDS = 0.5
# for files, for requests to Keystone and the registry, and for the other listeners
_RESERVED_DESCRIPTORS = 256
# SO_LINGER with 0 s: a reset, after which the kernel keeps nothing of the connection
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections a listener has at the same time: in total, and of one client.

    A client is an IPv4 address, a /64 network of IPv6, or a user at the other end of a unix socket.
    """

    total: int
    for_client: int


def reserve_descriptors(connections: int) -> int:
    """Raise the limit of open files to what ``connections`` need, and a reserve.

    Return how many connections fit: fewer if the hard limit is too low.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _RESERVED_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(1, allowed - _RESERVED_DESCRIPTORS)


class Acceptor:
    """Accepts the connections of ``listener``. Has the methods of an asyncio.Server that uvicorn calls.

    A connection counts from its acceptance to its end, TLS handshake included. root at the other end of a
    unix socket is always accepted, and does not count.
    """

    def __init__(
        self,
        listener: socket.socket,
        protocol: Callable[[], GuardedProtocol],
        limits: ConnectionLimits,
        tls: ssl.SSLContext | None,
        *,
        handshake_seconds: float = _HANDSHAKE_SECONDS,
    ) -> None:
        self._listener = listener
        self._protocol = protocol
        self._limits = limits
        self._tls = tls
        self._handshake_seconds = handshake_seconds
        self._connections: Counter[str] = Counter()
        self._beginning: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._closed = False
        listener.setblocking(False)
        self._listen()

    @property
    def connections(self) -> int:
        """The number of connections that count."""
        return self._connections.total()

    def close(self) -> None:
        """Accept no more connections. Drop those whose TLS handshake has not ended."""
        self._closed = True
        self._loop.remove_reader(self._listener)
        for task in self._beginning:
            task.cancel()

    async def wait_closed(self) -> None:
        """Return at once: ``close`` leaves nothing to wait for."""

    def _listen(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(_BATCH):
            try:
                connection, address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                # No descriptors or memory. The listener stays readable: another try at once would fail, too.
                log.error("connections can't be accepted: %s", error.strerror)
                self._loop.remove_reader(self._listener)
                self._loop.call_later(_PAUSE_SECONDS, self._listen)
                return
            self._admit(connection, address)

    def _admit(self, connection: socket.socket, address: object) -> None:
        connection.setblocking(False)
        client = _client_of(connection, address)
        if client is not None:
            if (
                self._connections[client] >= self._limits.for_client
                or self._connections.total() >= self._limits.total
            ):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                connection.close()
                return
            self._connections[client] += 1
        task = self._loop.create_task(self._begin(connection, client))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _begin(self, connection: socket.socket, client: str | None) -> None:
        ended = False

        def end() -> None:
            nonlocal ended
            if not ended and client is not None:
                self._connections[client] -= 1
                if not self._connections[client]:
                    del self._connections[client]
            ended = True

        def create() -> GuardedProtocol:
            protocol = self._protocol()
            protocol.on_end = end
            return protocol

        seconds = (
            {"ssl_handshake_timeout": self._handshake_seconds, "ssl_shutdown_timeout": _TLS_END_SECONDS}
            if self._tls
            else {}
        )
        try:
            await self._loop.connect_accepted_socket(create, connection, ssl=self._tls, **seconds)
        except OSError:
            # what a client does in its handshake is not worth a line for each
            end()
        except BaseException:
            end()
            raise


def _client_of(connection: socket.socket, address: object) -> str | None:
    """Return the name by which a connection counts, None for root on a unix socket."""
    if connection.family == socket.AF_UNIX:
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        uid = struct.unpack("3i", raw)[1]
        return f"uid {uid}" if uid else None
    assert isinstance(address, tuple)
    return network_of(address[0])
