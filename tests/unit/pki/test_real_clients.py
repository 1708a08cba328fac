"""What pki says, held against a Go client (skopeo) and an OpenSSL client (curl) on a real TLS listener.

What is accepted must work for both. What is refused beyond the contract's own list must really fail for one
of them: a rule that no client needs would only annoy an operator.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import ExtendedKeyUsageOID

from sysreg_cli.errors import CertificateRefused
from sysreg_cli.pki.check import ServerChain, check_server
from tests import certificates as make
from tests.tls_clients import HOST, go_accepts, openssl_accepts, served


def check(data: bytes) -> ServerChain:
    return check_server(data, passphrase=None, host_names=[HOST], now=datetime.now(UTC))


def leaf(issuer: make.Issued | None = None, **changes: Any) -> make.Issued:
    return make.server(issuer, **{"names": [HOST], **changes})


def rooted(*, root: dict[str, Any] | None = None, **changes: Any) -> bytes:
    authority = make.authority(**(root or {}))
    return make.bundle(leaf(authority, **changes), authority)


def below(**changes: Any) -> bytes:
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


def rsa(**changes: Any) -> bytes:
    authority = make.authority(key=make.rsa_key())
    return make.bundle(leaf(authority, key=make.rsa_key(number=1), **changes), authority)


def old_root() -> bytes:
    """Half of the public roots are signed with SHA-1. No client checks the signature of what it trusts."""
    authority = make.resigned(make.authority(key=make.rsa_key()), "sha1")
    return make.bundle(leaf(authority, key=make.rsa_key(number=1)), authority)


def constraint(
    *, permitted: list[x509.GeneralName] | None = None, excluded: list[x509.GeneralName] | None = None
) -> tuple[x509.NameConstraints, bool]:
    return (x509.NameConstraints(permitted, excluded), True)


POLICIES = (x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), None)]), True)
PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)

ACCEPTED: dict[str, Callable[[], bytes]] = {
    "self-signed": lambda: make.bundle(leaf()),
    "alone under an unknown CA": lambda: make.bundle(leaf(make.authority())),
    "P-256": rooted,
    "P-384": lambda: rooted(key=make.ec_key(ec.SECP384R1()), root={"key": make.ec_key(ec.SECP384R1())}),
    "P-521": lambda: rooted(key=make.ec_key(ec.SECP521R1()), root={"key": make.ec_key(ec.SECP521R1())}),
    "RSA": rsa,
    "RSASSA-PSS": lambda: rsa(padding=PSS),
    "RSA with SHA-512": lambda: rsa(algorithm=hashes.SHA512()),
    "a root signed with SHA-1": old_root,
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
    (tmp_path / "trust" / "ca.crt").write_bytes(chain.anchor.public_bytes(serialization.Encoding.PEM))
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
    # what the fuzzer found by holding accepted chains against skopeo
    "a URI with control characters": lambda: rooted(
        extra=[(x509.SubjectAlternativeName([x509.DNSName(HOST), _uri("https\x01://a.b/c")]), False)]
    ),
    "a URI constraint that is no domain": lambda: rooted(
        root={"extra": [(x509.NameConstraints([_uri("a\x01.b")], None), False)]}
    ),
    "a NumericString of letters": lambda: rooted(subject_type=_ASN1Type.NumericString),
    "two signature algorithms": lambda: _outside(make.bundle(leaf(make.authority()))),
    "a critical key identifier": lambda: rooted(extra=[(x509.SubjectKeyIdentifier(b"y" * 20), True)]),
}


def _uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


def _outside(data: bytes) -> bytes:
    """The one certificate of ``data`` with ecdsa-with-SHA384 named outside of what is signed."""
    certificate = x509.load_pem_x509_certificate(data[data.index(b"-----BEGIN CERT") :])
    der = certificate.public_bytes(serialization.Encoding.DER)
    sha256, sha384 = (bytes.fromhex(f"06082a8648ce3d04030{number}") for number in (2, 3))
    at = der.rindex(sha256)
    text = ssl.DER_cert_to_PEM_cert(der[:at] + sha384 + der[at + len(sha256) :])
    return data[: data.index(b"-----BEGIN CERT")] + text.encode()


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
