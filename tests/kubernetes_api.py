"""A stand-in for Kubernetes' API that holds one secret: for faults that a real one does not show on demand.

It follows the real one's protocol: list and watch with a field selector, resource versions, bookmarks, 410
for versions that it has forgotten (as an HTTP status and as an event, in turn), chunks, client certificates.
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import queue
import ssl
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests import certificates as make

NAMESPACE, NAME = "deployment", "registry-cert"
_PATH = f"/api/v1/namespaces/{NAMESPACE}/secrets"
_FIRST_VERSION = 100


class KubernetesApi:
    """One API server on a free port of loopback. Methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._version = _FIRST_VERSION
        self._oldest = _FIRST_VERSION
        self._data: dict[str, str] | None = None
        self._events: list[tuple[int, dict[str, Any]]] = []
        self._watches: set[queue.Queue[dict[str, Any] | None]] = set()
        self._gone_as_status = False
        #: the path and query of each request
        self.requests: list[str] = []
        self.revoked = False
        self.ca = make.authority("kubernetes")
        self._client = make.issue("kubernetes-admin", self.ca, extended=[ExtendedKeyUsageOID.CLIENT_AUTH])
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]

    @contextlib.contextmanager
    def serving(self, directory: Path) -> Iterator[KubernetesApi]:
        """Serve until the context ends. ``directory`` is for the server's key."""
        identity = make.issue("apiserver", self.ca, names=["127.0.0.1", "kubernetes"])
        pair = directory / "apiserver.pem"
        pair.write_bytes(identity.key_pem + identity.pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=self.ca.pem.decode())
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            self.disconnect()
            self._server.shutdown()
            thread.join()
            self._server.server_close()

    def write_kubeconfig(self, path: Path, **user: str) -> None:
        """Write a kubeconfig file as kubeadm does: all in base64. ``user`` replaces the user's."""

        def encoded(pem: bytes) -> str:
            return base64.b64encode(pem).decode()

        certificate = {
            "client-certificate-data": encoded(self._client.pem),
            "client-key-data": encoded(self._client.key_pem),
        }
        cluster = {
            "server": f"https://127.0.0.1:{self.port}",
            "certificate-authority-data": encoded(self.ca.pem),
        }
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "admin@kubernetes",
                    "contexts": [
                        {"name": "admin@kubernetes", "context": {"cluster": "kubernetes", "user": "admin"}}
                    ],
                    "clusters": [{"name": "kubernetes", "cluster": cluster}],
                    "users": [{"name": "admin", "user": user or certificate}],
                }
            )
        )

    # what happens in the cluster

    def put(self, **files: bytes) -> None:
        """Create or change the secret: ``put(**{"tls.crt": ..., "tls.key": ...})``."""
        data = {name: base64.b64encode(content).decode() for name, content in files.items()}
        with self._lock:
            kind = "ADDED" if self._data is None else "MODIFIED"
            self._data = data
            self._publish(kind)

    def delete(self) -> None:
        """Delete the secret."""
        with self._lock:
            self._publish("DELETED")
            self._data = None

    def bookmark(self, *, versions: int = 0) -> None:
        """Tell every watch the present version, after ``versions`` changes of other secrets."""
        with self._lock:
            self._version += versions
            event = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(self._version)}}}
            for watch in self._watches:
                watch.put(event)

    def forget(self) -> None:
        """Forget all earlier versions, as a compaction of etcd does, and end every watch."""
        with self._lock:
            self._version += 1
            self._oldest = self._version
            self._events.clear()
        self.disconnect()

    def disconnect(self) -> None:
        """Break the connection of every watch, in the middle of its response."""
        with self._lock:
            for watch in self._watches:
                watch.put(None)

    @property
    def watched(self) -> bool:
        """Whether a client watches."""
        with self._lock:
            return bool(self._watches)

    def _publish(self, kind: str) -> None:
        self._version += 1
        event = {"type": kind, "object": self._secret()}
        self._events.append((self._version, event))
        for watch in self._watches:
            watch.put(event)

    def _secret(self) -> dict[str, Any]:
        return {
            "metadata": {"name": NAME, "namespace": NAMESPACE, "resourceVersion": str(self._version)},
            "type": "kubernetes.io/tls",
            "data": self._data,
        }

    # the protocol

    def answer(self, query: Mapping[str, list[str]]) -> dict[str, Any]:
        """A list."""
        with self._lock:
            listed = self._data is not None and query.get("fieldSelector") == [f"metadata.name={NAME}"]
            items = [self._secret()] if listed else []
            return {"kind": "SecretList", "metadata": {"resourceVersion": str(self._version)}, "items": items}

    def gone(self, version: int) -> str:
        """Whether ``version`` is forgotten: "status" or "event" for how to say so, or ""."""
        with self._lock:
            if version >= self._oldest:
                return ""
            self._gone_as_status = not self._gone_as_status
            return "status" if self._gone_as_status else "event"

    @contextlib.contextmanager
    def watching(self, version: int) -> Iterator[queue.Queue[dict[str, Any] | None]]:
        """The events after ``version``; None for a broken connection."""
        events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        with self._lock:
            for at, event in self._events:
                if at > version:
                    events.put(event)
            self._watches.add(events)
        try:
            yield events
        finally:
            with self._lock:
                self._watches.discard(events)

    def _handler(api) -> type[http.server.BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                api.requests.append(self.path)
                url = urlsplit(self.path)
                query = parse_qs(url.query)
                if api.revoked or not self._authenticated():
                    self._status(401, "Unauthorized")
                elif url.path != _PATH:
                    self._status(403, f'User "admin" cannot list resource at {url.path}')
                elif "watch" in query:
                    self._watch(int(query["resourceVersion"][0]))
                else:
                    self._json(200, api.answer(query))

            def _authenticated(self) -> bool:
                assert isinstance(self.connection, ssl.SSLSocket)
                token = self.headers.get("Authorization") == "Bearer a-good-token"
                return token or bool(self.connection.getpeercert())

            def _watch(self, version: int) -> None:
                gone = {"kind": "Status", "code": 410, "message": "too old resource version"}
                how = api.gone(version)
                if how == "status":
                    self._json(410, gone)
                    return
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                if how == "event":
                    self._chunk({"type": "ERROR", "object": gone})
                    self.wfile.write(b"0\r\n\r\n")
                    return
                with api.watching(version) as events:
                    while (event := events.get()) is not None and not api.revoked:
                        self._chunk(event)
                self.close_connection = True

            def _chunk(self, event: object) -> None:
                line = json.dumps(event).encode() + b"\n"
                # an event may come in pieces
                for piece in (line[:40], line[40:]):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                    self.wfile.flush()

            def _status(self, code: int, message: str) -> None:
                self._json(code, {"kind": "Status", "code": code, "message": message})

            def _json(self, code: int, value: object) -> None:
                body = json.dumps(value).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    super().handle()

        return Handler
