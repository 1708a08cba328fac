"""What one connection to a daemon may take: uvicorn bounds neither a request's head nor the time it takes."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# 500 scopes of a client of ours are about 20 KiB of query.
MOST_HEAD_BYTES = 65536
HEAD_SECONDS = 10.0
# A peer that is gone without a word is found out after some 2.5 minutes instead of 2 hours.
_KEEPALIVE = {socket.TCP_KEEPIDLE: 60, socket.TCP_KEEPINTVL: 15, socket.TCP_KEEPCNT: 6}


class GuardedProtocol(HttpToolsProtocol):
    """Closes a connection whose request head is too long, or doesn't arrive in time.

    The time runs whenever no request is worked on, and only a whole head stops it.

    What else is no body counts as head: uvicorn keeps the trailers of a chunked body like headers.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_head = True
        self._in_body = False
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", _OneWrite(transport, self.loop)))
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > MOST_HEAD_BYTES:
            self._stop_timer()
            if self._in_head:
                self.send_400_response(f"The request's head is longer than {MOST_HEAD_BYTES} bytes.")
            else:
                self.transport.close()
        elif self._in_body and self.scope["method"] == "GET":
            # Nobody reads it, and what is still under way must not be taken for the next request.
            self.cycle.keep_alive = False
        # uvicorn took any byte, be it an empty line, for the next request, and ended the wait for one.
        # Most heads arrive in one piece: those cost no timer.
        elif self._head_timer is None and (self.cycle is None or self.cycle.response_complete):
            self._start_timer()

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
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._late)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _late(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()


def keep_alive(listener: socket.socket) -> None:
    """Let the kernel look after the peers of what ``listener`` will accept: Linux hands the options on."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE.items():
        listener.setsockopt(socket.IPPROTO_TCP, option, value)


class _OneWrite:
    """A transport that sends head and body of a response, which uvicorn writes apart, as one TLS record.

    A third of a token request's time was spent in the second write.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._pending: list[bytes] = []

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
