"""What one connection to a daemon may take, on a real socket, with an app that answers at its own pace."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from sysreg_cli.daemon.accepting import ConnectionLimits
from sysreg_cli.daemon.limits import GuardedProtocol
from sysreg_cli.daemon.server import Listener, Server, configuration

CHUNKED = b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
LATE = 10.0


class Limited(GuardedProtocol):
    """Drops a connection whose head takes 0.3 s."""

    head_seconds = 0.3


class Slow(GuardedProtocol):
    """Has more time for a head than any test."""

    head_seconds = 2 * LATE


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Says how long the body of a POST is, and 0 to a GET; never answers /held."""
    size = 0
    if scope["path"] == "/held":
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    while scope["method"] == "POST":
        message = await receive()
        size += len(message["body"])
        if not message["more_body"]:
            break
    body = b"%d!" % size
    length = str(len(body)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": body})


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> bytes:
        """One answer, to the mark that ends each body."""
        return await asyncio.wait_for(self._reader.readuntil(b"!"), LATE)

    async def is_closed(self, within: float = LATE) -> bool:
        """Whether the server ends the connection in time, without another answer."""
        try:
            return await asyncio.wait_for(self._reader.read(), within) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False


@asynccontextmanager
async def connected(protocol: type[GuardedProtocol]) -> AsyncIterator[Connection]:
    """A connection to a server of its own."""
    config = configuration(app, protocol=protocol, stop_seconds=5, idle_seconds=60)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(Listener(listener, config, ConnectionLimits(10, 10)))
        serving = asyncio.create_task(server.serve())
        await server.listening.wait()
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        try:
            yield Connection(reader, writer)
        finally:
            writer.close()
            server.should_exit = True
            await serving


def run(
    test: Callable[[Connection], Coroutine[Any, Any, None]], protocol: type[GuardedProtocol] = GuardedProtocol
) -> None:
    async def whole() -> None:
        async with connected(protocol) as connection:
            await test(connection)

    asyncio.run(asyncio.wait_for(whole(), 30))


@pytest.mark.parametrize("trailers", [b"a:b\r\n" * 30_000, b"a: " + b"b" * 150_000], ids=["many", "one"])
def test_endless_trailers_end_the_connection(trailers: bytes) -> None:
    async def test(connection: Connection) -> None:
        await connection.send(b"GET /held" + CHUNKED + b"0\r\n")
        with contextlib.suppress(ConnectionError):
            for start in range(0, len(trailers), 10_000):
                await connection.send(trailers[start : start + 10_000])
        assert await connection.is_closed()

    run(test, Slow)


@pytest.mark.parametrize("rest", [CHUNKED + b"0\r\n", b" HTTP/1.1\r\nContent-Length: 9\r\n\r\n12"])
def test_a_get_with_a_body_gets_its_answer_and_the_connection_ends(rest: bytes) -> None:
    async def test(connection: Connection) -> None:
        await connection.send(b"GET /" + rest)
        assert b"connection: close" in await connection.answer()
        assert await connection.is_closed()

    run(test)


def test_a_body_may_be_longer_than_a_head_and_the_connection_goes_on() -> None:
    async def test(connection: Connection) -> None:
        size = 4 * GuardedProtocol.max_head_bytes
        for _ in range(2):
            await connection.send(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
            assert (await connection.answer()).endswith(b"%d!" % size)
        for _ in range(2):
            await connection.send(b"GET / HTTP/1.1\r\n\r\n")
            assert (await connection.answer()).endswith(b"0!")

    run(test)


@pytest.mark.parametrize(
    "after", [(b"\r\n",), (b"\r\n",) * 40, (b"GET /",)], ids=["a line", "many lines", "part of a head"]
)
def test_no_byte_keeps_an_idle_connection_open(after: tuple[bytes, ...]) -> None:
    async def test(connection: Connection) -> None:
        await connection.send(b"GET / HTTP/1.1\r\n\r\n")
        await connection.answer()
        with contextlib.suppress(ConnectionError):
            for piece in after:
                await connection.send(piece)
                await asyncio.sleep(0.05)
        assert await connection.is_closed()

    run(test, Limited)


def test_a_body_that_nobody_reads_keeps_no_connection_open() -> None:
    async def test(connection: Connection) -> None:
        await connection.send(b"DELETE / HTTP/1.1\r\nContent-Length: 9\r\n\r\n")
        await connection.answer()
        await connection.send(b"1")
        assert await connection.is_closed()

    run(test, Limited)


def test_a_request_that_is_worked_on_has_all_the_time_it_needs() -> None:
    async def test(connection: Connection) -> None:
        await connection.send(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n1")
        await asyncio.sleep(0.5)
        await connection.send(b"2")
        assert (await connection.answer()).endswith(b"2!")
        await connection.send(b"GET /held HTTP/1.1\r\n\r\n")
        assert not await connection.is_closed(within=0.5)

    run(test, Limited)


def test_uvicorn_calls_what_is_overridden_and_has_what_is_used() -> None:
    """A new version of uvicorn that renames one of these would switch the limits off without a word."""
    overridden = {name for name, value in vars(GuardedProtocol).items() if inspect.isfunction(value)}
    assert {name for name in overridden if name[0] != "_"} <= set(vars(HttpToolsProtocol))
    config = configuration(app, stop_seconds=1)
    with asyncio.Runner() as runner:
        plain = HttpToolsProtocol(config, ServerState(), {}, runner.get_loop())
    assert not overridden & {name for name in vars(plain) if name != "__init__"}
    for name in ("transport", "loop", "scope", "cycle", "app_state", "send_400_response"):
        assert hasattr(plain, name)
    cycle = inspect.getsource(RequestResponseCycle.__init__)
    assert "self.keep_alive" in cycle
    assert "self.response_complete" in cycle
    assert not set(vars(plain)) & {"_in_head", "_in_body", "_head_bytes", "_head_timer", "on_end"}
    assert not hasattr(plain, "max_head_bytes")
    assert not hasattr(plain, "head_seconds")
