"""Limits for one connection to a daemon: uvicorn limits neither the size of a request's head nor its time.

This subclasses a private class of uvicorn, because no setting of uvicorn or hypercorn does the same.
setup.cfg has an upper bound for uvicorn, and tests/unit/daemon/test_limits.py fails when that class changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Seconds for a client to read what ended its connection
_LAST_SECONDS = 1.0


def _nothing() -> None: ...


class GuardedProtocol(HttpToolsProtocol):
    """Ends a connection whose request head is too long, or does not arrive in time.

    The timer runs while no request is being handled. Only a complete head stops it. The trailers of a chunked
    body count as part of a head, because uvicorn keeps them in memory as it keeps headers.
    """

    #: a query with 500 scopes has about 20 KiB
    max_head_bytes: ClassVar[int] = 65536
    head_seconds: ClassVar[float] = 10.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_head = True
        self._in_body = False
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        #: called when the connection has ended
        self.on_end: Callable[[], None] = _nothing

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", _OneWrite(transport, self.loop)))
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self.on_end()
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > self.max_head_bytes:
            self._stop_timer()
            if self._in_head:
                self.send_400_response(f"The request's head is longer than {self.max_head_bytes} bytes.")
            else:
                self.transport.abort()
        elif self._in_body and self.scope["method"] == "GET":
            # nobody reads this body, and its rest must not be taken for the next request
            self.cycle.keep_alive = False
        # uvicorn stops its own timer on any byte, even of an empty line. So this one starts, unless the whole
        # head has arrived.
        elif self._head_timer is None and (self.cycle is None or self.cycle.response_complete):
            self._start_timer()

    def send_400_response(self, msg: str) -> None:
        super().send_400_response(msg)
        # a close waits until the client has read everything; one that breaks the rules may never do so
        self.loop.call_later(_LAST_SECONDS, self.transport.abort)

    def timeout_keep_alive_handler(self) -> None:
        if not self.transport.is_closing():
            # the client may not have read its response, so it gets the time for that
            self.transport.close()
            self.loop.call_later(_LAST_SECONDS, self.transport.abort)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._in_body = True
        self._stop_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._head_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def _start_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self._time_out)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _time_out(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.abort()


class _OneWrite:
    """A transport that sends head and body of a response as one TLS record.

    uvicorn writes them separately. The second write took a third of the time of a token request.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._pending: list[bytes] = []
        # called for each request; __getattr__ would take longer
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        if not self._pending:
            self._loop.call_soon(self._flush)
        self._pending.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._pending:
            data = b"".join(self._pending)
            self._pending.clear()
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
