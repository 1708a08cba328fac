"""Servers that do what no real registry can be made to do; all of them on 127.0.0.1 with a real TLS."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

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


class RegistryOfTags(ThreadingHTTPServer):
    """A registry that can delete tags, as distribution 3 can, and wants no tokens. Use it in a ``with``."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext, tags: Iterable[str]) -> None:
        super().__init__(("127.0.0.1", 0), _RegistryHandler)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        #: NAME:TAG -> manifest
        self.manifests = {
            tag: b'{"schemaVersion": 2, "annotations": {"of": "%s"}}' % tag.encode() for tag in tags
        }

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.shutdown()
        self.server_close()


class _RegistryHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # headers and body are two writes, and the kernel would hold back the second
    disable_nagle_algorithm = True
    server: RegistryOfTags

    def do_GET(self) -> None:
        name, _, reference = self.path.removeprefix("/v2/").partition("/manifests/")
        if reference:
            content = self.server.manifests.get(f"{name}:{reference}")
            self._answer(
                200 if content else 404, content or b"{}", "application/vnd.oci.image.manifest.v1+json"
            )
            return
        name = name.removesuffix("/tags/list")
        tags = [tag.rpartition(":")[2] for tag in self.server.manifests if tag.startswith(f"{name}:")]
        self._answer(200, json.dumps({"tags": tags}).encode())

    def do_DELETE(self) -> None:
        name, _, reference = self.path.removeprefix("/v2/").partition("/manifests/")
        self.server.manifests.pop(f"{name}:{reference}", None)
        self._answer(202)

    def _answer(self, status: int, content: bytes = b"", kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        """Log nothing."""
