"""What pki says, held against a Go client (skopeo) and an OpenSSL client (curl) on a real TLS listener.

What is accepted must work for both. What is refused beyond the contract's own list must really fail for one
of them: a rule that no client needs would only annoy an operator.
"""

from __future__ import annotations

import http.server
import ipaddress
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.x509.oid import ExtendedKeyUsageOID

from sysreg_cli.errors import CertificateRefused
from sysreg_cli.pki.check import ServerChain, check_server
from tests import certificates as make

HOST = "localhost"


class _Nothing(http.server.BaseHTTPRequestHandler):
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
    server = _Server(("127.0.0.1", 0), _Nothing)
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


def check(data: bytes) -> ServerChain:
    return check_server(data, passphrase=None, host_names=[HOST], now=datetime.now(UTC))


def leaf(issuer: make.Issued | None = None, **changes: object) -> make.Issued:
    return make.server(issuer, **{"names": [HOST], **changes})  # type: ignore[arg-type]


def rooted(*, root: dict | None = None, **changes: object) -> bytes:
    authority = make.authority(**(root or {}))
    return make.bundle(leaf(authority, **changes), authority)


def below(**changes: object) -> bytes:
    """A server certificate under a bent intermediate."""
    root = make.authority("Root")
    sub = make.authority("Sub", root, **changes)
    return make.bundle(leaf(sub), sub, root)


def unrooted() -> bytes:
    sub = make.authority("Sub", make.authority("Root"))
    return make.bundle(leaf(sub), sub)


def rolled_over() -> bytes:
    """The anchor is a CA's new key under the CA's old name, signed with its old key."""
    old = make.authority("Rolling")
    new = make.authority("Rolling", old)
    return make.bundle(leaf(new), new)


def rsa(**changes: object) -> bytes:
    authority = make.authority(key=make.rsa_key())
    return make.bundle(leaf(authority, key=make.rsa_key(number=1), **changes), authority)


def constraint(*, permitted: list | None = None, excluded: list | None = None) -> tuple:
    return (x509.NameConstraints(permitted, excluded), True)


POLICIES = (x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), None)]), True)
PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)

ACCEPTED = {
    "self-signed": lambda: make.bundle(leaf()),
    "alone under an unknown CA": lambda: make.bundle(leaf(make.authority())),
    "P-256": rooted,
    "P-384": lambda: rooted(key=make.ec_key(ec.SECP384R1()), root={"key": make.ec_key(ec.SECP384R1())}),
    "P-521": lambda: rooted(key=make.ec_key(ec.SECP521R1()), root={"key": make.ec_key(ec.SECP521R1())}),
    "RSA": rsa,
    "RSASSA-PSS": lambda: rsa(padding=PSS),
    "RSA with SHA-512": lambda: rsa(algorithm=hashes.SHA512()),
    "an intermediate": below,
    "an intermediate as anchor": unrooted,
    "a rolled-over key as anchor": rolled_over,
    "no identifiers": lambda: rooted(without=[x509.AuthorityKeyIdentifier, x509.SubjectKeyIdentifier]),
    "no usage": lambda: rooted(without=[x509.KeyUsage, x509.ExtendedKeyUsage]),
    "permitted name": lambda: rooted(root={"extra": [constraint(permitted=[x509.DNSName(HOST)])]}),
    "a path length of 0": lambda: rooted(root={"path_length": 0}),
    "critical policies": lambda: rooted(extra=[POLICIES]),
}  # fmt: skip


@pytest.mark.parametrize("shape", ACCEPTED)
def test_what_is_accepted_works_for_go_and_openssl(shape: str, tmp_path: Path) -> None:
    chain = check(ACCEPTED[shape]())
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust" / "ca.crt").write_bytes(chain.anchor_pem)
    with served(tmp_path, chain.key_pem + chain.chain_pem) as port:
        assert go_accepts(port, tmp_path / "trust")
        assert openssl_accepts(port, tmp_path / "trust")


def test_clients_refuse_it_without_the_anchor(tmp_path: Path) -> None:
    chain = check(rooted())
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust" / "ca.crt").write_bytes(make.authority().pem)
    with served(tmp_path, chain.key_pem + chain.chain_pem) as port:
        assert not go_accepts(port, tmp_path / "trust")
        assert not openssl_accepts(port, tmp_path / "trust")


UNKNOWN = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)
OTHER_KEY = (x509.AuthorityKeyIdentifier(b"x" * 20, None, None), False)
ELSEWHERE = x509.IPAddress(ipaddress.ip_network("192.0.2.0/24"))

REFUSED = {
    "any extended key usage": lambda: rooted(extended=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]),
    "an intermediate for clients": lambda: below(extended=[ExtendedKeyUsageOID.CLIENT_AUTH]),
    "an intermediate that may not sign": lambda: below(key_usage=make.usage("crl_sign")),
    "an unknown critical extension": lambda: rooted(extra=[UNKNOWN]),
    "an unknown critical extension above": lambda: below(extra=[UNKNOWN]),
    "another issuing key named": lambda: rooted(extra=[OTHER_KEY]),
    "a name not permitted": lambda: rooted(
        root={"extra": [constraint(permitted=[x509.DNSName("example.org")])]}
    ),
    "a name excluded": lambda: rooted(root={"extra": [constraint(excluded=[x509.DNSName(HOST)])]}),
    "an address not permitted": lambda: rooted(
        names=[HOST, "127.0.0.1"], root={"extra": [constraint(permitted=[ELSEWHERE])]}
    ),
    "constraints on directory names": lambda: rooted(
        root={"extra": [constraint(permitted=[x509.DirectoryName(make.name("server"))])]}
    ),
    "PSS with another salt": lambda: rsa(
        padding=padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=20)
    ),
    "a critical key identifier": lambda: rooted(extra=[(x509.SubjectKeyIdentifier(b"y" * 20), True)]),
}


@pytest.mark.parametrize("shape", REFUSED)
def test_what_is_refused_beyond_the_contract_fails_for_a_client(shape: str, tmp_path: Path) -> None:
    data = REFUSED[shape]()
    with pytest.raises(CertificateRefused) as caught:
        check(data)
    assert len(caught.value.problems) == 1
    (tmp_path / "trust").mkdir()
    last = data.rindex(b"-----BEGIN CERTIFICATE-----")
    (tmp_path / "trust" / "ca.crt").write_bytes(data[last:])
    with served(tmp_path, data) as port:
        accepted = [go_accepts(port, tmp_path / "trust"), openssl_accepts(port, tmp_path / "trust")]
    assert not all(accepted)
