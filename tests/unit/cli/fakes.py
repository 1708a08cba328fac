"""Servers that do what no real registry can be made to do; all of them on 127.0.0.1 with a real TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

Behaviour = Callable[[ssl.SSLSocket, bytes], None]


@contextlib.contextmanager
def raw_server(context: ssl.SSLContext, behave: Behaviour) -> Iterator[int]:
    """Accept TLS connections, read one request each and leave the rest to ``behave``; yields the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def serve(plain: socket.socket) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as connection:
            request = b""
            while b"\r\n\r\n" not in request and (more := connection.recv(65536)):
                request += more
            behave(connection, request)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = listener.accept()
                thread = threading.Thread(target=serve, args=(plain,), daemon=True)
                thread.start()
                threads.append(thread)

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(5)
