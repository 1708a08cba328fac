"""How many connections a listener takes, on real sockets. Addresses of 127/8 stand for other clients."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import ssl
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme
import uvloop

from sysreg_cli.daemon.accepting import Acceptor, ConnectionLimits
from sysreg_cli.daemon.limits import GuardedProtocol
from sysreg_cli.daemon.server import Listener, Server, configuration

LATE = 10.0


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
    await send({"type": "http.response.body", "body": b"!"})


@asynccontextmanager
async def serving(listener: socket.socket, limits: ConnectionLimits) -> AsyncIterator[None]:
    server = Server(Listener(listener, configuration(app, stop_seconds=5, idle_seconds=60), limits))
    task = asyncio.create_task(server.serve())
    await server.listening.wait()
    try:
        yield
    finally:
        server.should_exit = True
        await task


class Client:
    """A connection from one of the addresses 127.0.0.N."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, listener: socket.socket, number: int) -> Client:
        return cls(
            *await asyncio.open_connection(*listener.getsockname(), local_addr=(f"127.0.0.{number}", 0))
        )

    async def is_served(self) -> bool:
        """Whether a request gets its response; else the connection was reset."""
        try:
            self.writer.write(b"GET / HTTP/1.1\r\n\r\n")
            return (await asyncio.wait_for(self.reader.readuntil(b"!"), LATE)).startswith(b"HTTP/1.1 200")
        except (ConnectionError, asyncio.IncompleteReadError):
            return False

    def close(self) -> None:
        self.writer.close()


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Runs a coroutine in the event loop of one of the daemons."""

    def run_story(story: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(asyncio.wait_for(story, 30))

    return run_story


Run = Callable[[Coroutine[Any, Any, None]], None]


async def admitted(listener: socket.socket, number: int) -> Client | None:
    """A client from 127.0.0.``number``; None if the server resets its connection."""
    with contextlib.suppress(ConnectionError):
        client = await Client.connect(listener, number)
        if await client.is_served():
            return client
    return None


def test_one_client_gets_its_share_and_leaves_the_rest_to_others(run: Run) -> None:
    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with serving(listener, ConnectionLimits(total=5, for_client=2)):
                mine = [await admitted(listener, 2) for _ in range(4)]
                assert [client is not None for client in mine] == [True, True, False, False]
                others = [await admitted(listener, number) for number in (3, 4, 5, 6)]
                assert [client is not None for client in others] == [True, True, True, False]
                assert mine[0]
                mine[0].close()
                async with asyncio.timeout(LATE):
                    while not (again := await admitted(listener, 2)):
                        await asyncio.sleep(0.02)
                for client in (*mine, *others, again):
                    if client:
                        client.close()

    run(story())


def test_a_client_that_is_silent_during_the_handshake_counts_and_is_dropped(run: Run) -> None:
    authority = trustme.CA()
    server_tls, client_tls = (
        ssl.SSLContext(kind) for kind in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT)
    )
    authority.issue_cert("127.0.0.1").configure_cert(server_tls)
    authority.configure_trust(client_tls)

    async def story() -> None:
        config = configuration(app, stop_seconds=1)
        state = uvicorn_state()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            acceptor = Acceptor(
                listener,
                lambda: GuardedProtocol(config, state, {}),
                ConnectionLimits(total=10, for_client=3),
                server_tls,
                handshake_seconds=0.5,
            )
            silent = [await Client.connect(listener, 2) for _ in range(3)]
            async with asyncio.timeout(LATE):
                while acceptor.connections < 3:
                    await asyncio.sleep(0.005)
                with pytest.raises(ConnectionError):
                    await asyncio.open_connection(
                        *listener.getsockname(), local_addr=("127.0.0.2", 0), ssl=client_tls
                    )
                for client in silent:
                    with contextlib.suppress(ConnectionError):
                        assert await client.reader.read() == b""
                while acceptor.connections:
                    await asyncio.sleep(0.005)
                reader, writer = await asyncio.open_connection(
                    *listener.getsockname(), local_addr=("127.0.0.2", 0), ssl=client_tls
                )
                assert await Client(reader, writer).is_served()
                writer.close()
                while acceptor.connections:
                    await asyncio.sleep(0.005)
            acceptor.close()

    run(story())


def uvicorn_state() -> Any:
    from uvicorn.server import ServerState

    return ServerState()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to connect as other users, too")
def test_root_reaches_a_unix_socket_that_others_have_filled(run: Run) -> None:
    address = f"\0sysreg-test-{uuid.uuid4().hex}"

    def connect_as(uid: int) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        os.seteuid(uid)
        try:
            client.connect(address)
        finally:
            os.seteuid(0)
        client.setblocking(False)
        return client

    async def story() -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen(100)
            async with serving(listener, ConnectionLimits(total=6, for_client=4)):
                clients = []
                for uid, served in ((61001, 4), (61002, 2), (61003, 0), (0, 12)):
                    for number in range(12):
                        clients.append(Client(*await asyncio.open_connection(sock=connect_as(uid))))
                        assert await clients[-1].is_served() == (number < served)
                for client in clients:
                    client.close()

    run(story())


def test_without_descriptors_it_waits_and_goes_on(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with serving(listener, ConnectionLimits(total=10, for_client=10)):
                with socket.create_connection(listener.getsockname()):
                    pass
                soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
                client = socket.socket()
                client.setblocking(False)
                resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno(), hard))
                try:
                    with contextlib.suppress(BlockingIOError):
                        client.connect(listener.getsockname())
                    async with asyncio.timeout(LATE):
                        while "connections can't be accepted: Too many open files" not in caplog.text:
                            await asyncio.sleep(0.01)
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                assert await Client(*await asyncio.open_connection(sock=client)).is_served()

    run(story())
