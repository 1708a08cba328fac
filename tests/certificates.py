"""Certificates for tests, made at run time. A test can change each property."""

from __future__ import annotations

import functools
import ipaddress
import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOST = "registry.local"
USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def usage(*names: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in names for name in USAGES})


@functools.cache
def rsa_key(bits: int = 2048, exponent: int = 65537, *, number: int = 0) -> rsa.RSAPrivateKey:
    """One RSA key for each size and ``number`` in the whole run: making them is slow."""
    return rsa.generate_private_key(exponent, bits)


def ec_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve or ec.SECP256R1())


def key_pem(key: Any, form: str = "PKCS8", passphrase: bytes | None = None) -> bytes:
    """PKCS8, or TraditionalOpenSSL: PKCS1 for RSA and SEC1 for EC (encrypted: the legacy PEM encryption)."""
    encryption = (
        serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    )
    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM, getattr(serialization.PrivateFormat, form), encryption
    )
    return pem


@dataclass(frozen=True)
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: Any

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return key_pem(self.key)


def name(common_name: str, string: Any = None) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name, string)])


def sans(names: Iterable[str]) -> x509.SubjectAlternativeName:
    general: list[x509.GeneralName] = []
    for text in names:
        try:
            general.append(x509.IPAddress(ipaddress.ip_address(text)))
        except ValueError:
            general.append(x509.DNSName(text))
    return x509.SubjectAlternativeName(general)


def issue(
    subject: str,
    issuer: Issued | None = None,
    *,
    key: Any = None,
    ca: bool = False,
    path_length: int | None = None,
    names: Sequence[str] = (),
    key_usage: x509.KeyUsage | None = None,
    extended: Sequence[x509.ObjectIdentifier] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    algorithm: Any = None,
    extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
    without: Sequence[type[x509.ExtensionType]] = (),
    serial: int = 0,
    issuer_name: x509.Name | None = None,
    padding: Any = None,
    subject_type: Any = None,
    subject_name: x509.Name | None = None,
) -> Issued:
    """Issue a certificate, self-signed without ``issuer``. ``extra`` replaces extensions of the same type."""
    now = datetime.now(UTC)
    key = key or ec_key()
    signer = issuer.key if issuer else key
    authority = issuer_name or (issuer.certificate.subject if issuer else name(subject))
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=ca, path_length=path_length), True),
        (key_usage or (usage("key_cert_sign", "crl_sign") if ca else usage("digital_signature")), True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False),
    ]
    if names:
        extensions.append((sans(names), False))
    if extended is not None or not ca:
        extensions.append((x509.ExtendedKeyUsage(extended or [ExtendedKeyUsageOID.SERVER_AUTH]), False))
    replaced = {type(added) for added, _ in extra if type(added) is not x509.UnrecognizedExtension} | set(
        without
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject_name or name(subject, subject_type))
        .issuer_name(authority)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(start or now - timedelta(days=1))
        .not_valid_after(end or now + timedelta(days=365))
    )
    for extension, critical in [*(pair for pair in extensions if type(pair[0]) not in replaced), *extra]:
        builder = builder.add_extension(extension, critical=critical)
    certificate = builder.sign(signer, algorithm or hashes.SHA256(), rsa_padding=padding)
    return Issued(certificate, key)


def authority(subject: str = "Test Root", issuer: Issued | None = None, **changes: Any) -> Issued:
    return issue(subject, issuer, ca=True, **changes)


def server(issuer: Issued | None = None, **changes: Any) -> Issued:
    """A server certificate for registry.local."""
    return issue("server", issuer, **{"names": [HOST], **changes})


def resigned(issued: Issued, digest: str) -> Issued:
    """The self-signed ``issued`` with a signature by another hash, which only openssl(1) still makes."""
    with tempfile.TemporaryDirectory() as directory:
        key = Path(directory) / "key.pem"
        key.write_bytes(issued.key_pem)
        pem = subprocess.run(
            ["openssl", "x509", "-signkey", key, f"-{digest}"],
            input=issued.pem, capture_output=True, check=True, timeout=60,
        ).stdout  # fmt: skip
    return Issued(x509.load_pem_x509_certificate(pem), issued.key)


def signed(content: bytes, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """Sign a TBSCertificate whose ``content`` (DER, 256 bytes or more) a test has changed."""
    tbs = b"\x30\x82" + len(content).to_bytes(2, "big") + content
    signature = key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    ecdsa_with_sha256 = bytes.fromhex("300a06082a8648ce3d040302")
    whole = tbs + ecdsa_with_sha256 + bytes([0x03, len(signature) + 1, 0]) + signature
    return x509.load_der_x509_certificate(b"\x30\x82" + len(whole).to_bytes(2, "big") + whole)


def bundle(*parts: Issued, key: bytes | None = None) -> bytes:
    """The key of the first certificate, then all certificates."""
    return (parts[0].key_pem if key is None else key) + b"".join(part.pem for part in parts)


def pems_in(files: Iterable[Path]) -> list[bytes]:
    """The certificates in these files, PEM, sorted. A file without one counts as its content."""
    found: list[bytes] = []
    for path in files:
        content = path.read_bytes()
        found += re.findall(rb"-----BEGIN CERT.*?-----END CERTIFICATE-----\n", content, re.DOTALL) or [
            content
        ]
    return sorted(found)
