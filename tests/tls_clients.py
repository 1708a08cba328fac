"""What TLS clients see of a server: whether Go (skopeo) and OpenSSL (curl) trust it, and its chain."""

from __future__ import annotations

import http.server
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devstack.controller import Controller
from devstack.endpoints import HOST_NAME

HOST = "localhost"


class _NotFound(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_args: object) -> None:
        pass  # a client that hangs up on a bad certificate


@contextmanager
def served(directory: Path, data: bytes) -> Iterator[int]:
    """The port of an HTTPS server on loopback with the key and certificates of ``data``, as they are."""
    both = directory / "both.pem"
    both.write_bytes(data)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    server = _Server(("127.0.0.1", 0), _NotFound)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def go_accepts(port: int, trust: Path) -> bool:
    done = subprocess.run(
        ["skopeo", "inspect", "--cert-dir", trust, f"docker://{HOST}:{port}/nothing"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    refused = any(word in done.stderr for word in ("x509", "tls:", "certificate"))
    assert refused or "404" in done.stderr, done.stderr
    return not refused


def openssl_accepts(port: int, trust: Path) -> bool:
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--cacert", trust / "ca.crt", f"https://{HOST}:{port}/"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 35, 51, 60), done.stderr
    return done.returncode == 0


def presented_chain(port: int, name: str) -> list[bytes]:
    """The chain, as DER, that a listener on loopback presents for ``name``; empty if it is down."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=20) as connection,
            context.wrap_socket(connection, server_hostname=name) as tls,
        ):
            if hasattr(tls, "get_unverified_chain"):  # Python 3.13
                return list(tls.get_unverified_chain())
            chain = tls._sslobj.get_unverified_chain()  # type: ignore[attr-defined]
            return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in chain]
    except OSError:
        return []


def openssl_chain(controller: Controller, port: int) -> list[bytes]:
    """The chain, as DER, that a listener of ``controller`` presents to openssl in the same namespaces."""
    where = ("-connect", f"{HOST_NAME}:{port}", "-servername", HOST_NAME)
    output = controller.run(["openssl", "s_client", *where, "-showcerts"]).stdout
    blocks = re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", output, re.DOTALL)
    return [ssl.PEM_cert_to_DER_cert(block) for block in blocks]
