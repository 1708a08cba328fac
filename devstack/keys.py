"""The keys and certificates of an embedded controller, made at its first start; none is in the repository."""

from __future__ import annotations

import datetime
import ipaddress
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOST_NAME = "registry.local"
# The address of controllers in a network namespace of their own (TEST-NET-2, RFC 5737).
NAMESPACE_ADDRESS = "198.51.100.10"


def write_tls(directory: Path, *, group: int) -> None:
    """A self-signed P-256 certificate for registry.local: ``generations/first``, linked as ``current``.

    The layout is the one certificate-install replaces: server.key (root:group 0440) and server.crt.
    """
    generation = directory / "generations" / "first"
    generation.mkdir(parents=True)
    key = ec.generate_private_key(ec.SECP256R1())
    names = [
        x509.DNSName(HOST_NAME),
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address(NAMESPACE_ADDRESS)),
    ]
    certificate = (
        _self_signed(HOST_NAME, key)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write_pair(generation / "server.key", generation / "server.crt", key, certificate)
    os.chown(generation / "server.key", 0, group)
    (generation / "server.key").chmod(0o440)
    (directory / "current").symlink_to("generations/first")


def write_signing(key_file: Path, certificate_file: Path) -> None:
    """The key that signs registry tokens, with the certificate the registry's rootcertbundle holds."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _self_signed("sysreg token signing", key).sign(key, hashes.SHA256())
    _write_pair(key_file, certificate_file, key, certificate)


def _self_signed(name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=825))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
    )


def _write_pair(
    key_file: Path, certificate_file: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key_file.parent.mkdir(parents=True, exist_ok=True)
    key_file.touch(mode=0o400, exist_ok=False)
    key_file.write_bytes(pem)
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    certificate_file.chmod(0o644)
