"""How many connections a listener takes, on real sockets. Addresses of 127/8 stand for other clients."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import socket
import ssl
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop

from sysreg_cli.agent import main as agent
from sysreg_cli.daemon.accepting import Acceptor, ConnectionLimits
from sysreg_cli.daemon.limits import GuardedProtocol
from sysreg_cli.daemon.server import Listener, Server, configuration
from sysreg_cli.token_server import main as token_server

LATE = 10.0
ROOT = Path(__file__).parents[3]


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
    server_tls, client_tls = tls_contexts()

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


class Impatient(GuardedProtocol):
    head_seconds = 0.3


def test_a_client_that_breaks_the_limits_and_reads_nothing_is_gone_at_once(run: Run) -> None:
    server_tls, client_tls = tls_contexts()

    async def story() -> None:
        config = configuration(app, stop_seconds=1)
        state = uvicorn_state()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            acceptor = Acceptor(
                listener, lambda: Impatient(config, state, {}), ConnectionLimits(10, 10), server_tls
            )

            def connect(sent: bytes) -> ssl.SSLSocket:
                plain = socket.create_connection(listener.getsockname(), LATE)
                connection = client_tls.wrap_socket(plain, server_hostname="127.0.0.1")
                connection.sendall(sent)
                return connection

            # a head that never ends, and a request whose rest never comes
            heads = (b"GET /" + b"x" * 70_000, b"GET / HTTP/1.1\r\nX: y")
            clients = [await asyncio.to_thread(connect, head) for head in heads]
            # without an abort, the event loop waits for the client's end of TLS for half a minute
            async with asyncio.timeout(LATE):
                while acceptor.connections:
                    await asyncio.sleep(0.01)
            for client in clients:
                client.close()
            acceptor.close()

    run(story())


def tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The TLS of a server at 127.0.0.1, and of a client that trusts it."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


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


def test_only_the_acceptor_takes_connections_and_uvicorn_closes_it(run: Run) -> None:
    """A new version of uvicorn that accepts in another way would switch the limits off without a word."""

    async def story() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        server = Server(
            Listener(listener, configuration(app, stop_seconds=1), ConnectionLimits(total=1, for_client=1))
        )
        task = asyncio.create_task(server.serve())
        await server.listening.wait()
        assert server.started
        (acceptor,) = server.servers
        assert isinstance(acceptor, Acceptor)
        assert server.lifespan.state == {}
        server.should_exit = True
        await asyncio.wait_for(task, LATE)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)

    run(story())


@pytest.mark.parametrize(
    ("unit", "connections"),
    [
        ("sysreg-token-server", token_server.LIMITS.total),
        ("sysreg-agent", 2 * agent.LIMITS.total + agent.METRICS_LIMITS.total),
    ],
)
def test_the_units_allow_the_descriptors_that_the_connections_and_the_reserve_need(
    unit: str, connections: int
) -> None:
    text = (ROOT / f"etc/systemd/system/{unit}.service").read_text()
    (limit,) = re.findall(r"^LimitNOFILE=(\d+)", text, re.MULTILINE)
    assert int(limit) >= connections + 256
    assert re.search(r"^MemoryMax=\d+[MG]$", text, re.MULTILINE)


def test_fewer_connections_fit_if_the_hard_limit_is_low() -> None:
    code = (
        "import resource\n"
        "from sysreg_cli.daemon.accepting import reserve_descriptors\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (300, 1000))\n"
        "print(reserve_descriptors(10), reserve_descriptors(500), reserve_descriptors(2000))\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "10 500 744\n(1000, 1000)\n"
