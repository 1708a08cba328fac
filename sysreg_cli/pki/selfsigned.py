"""Self-signed certificates: for the TLS of a new controller, and for the key that signs its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sysreg_cli.pki.keys import to_pem
from sysreg_cli.pki.names import as_address


def self_signed(
    host_names: Sequence[str],
    *,
    now: datetime,
    days: int = 365,
    addresses: Sequence[str] = (),
) -> tuple[bytes, bytes]:
    """Make a P-256 key (PKCS8 PEM), and its certificate (PEM) for ``host_names`` and IP ``addresses``.

    The certificate passes ``check_server``. It is not a CA, so its key cannot sign for another name.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    hosts = [as_address(host) or host for host in (*host_names, *addresses)]
    sans = [
        x509.DNSName(host) if isinstance(host, str) else x509.IPAddress(host) for host in dict.fromkeys(hosts)
    ]
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    unused = (
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    usage = x509.KeyUsage(digital_signature=True, **dict.fromkeys(unused, False))
    certificate = (
        # Valid from five minutes ago, for clients whose clock is a little behind.
        _builder(key, host_names[0], now - timedelta(minutes=5), now + timedelta(days=days))
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(sans), critical=False)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return to_pem(key), certificate.public_bytes(serialization.Encoding.PEM)


def signing_certificate(key: ec.EllipticCurvePrivateKey, *, now: datetime, days: int = 3650) -> bytes:
    """Make a certificate (PEM) for a token-signing key. ``x5c`` in a token's header holds certificates."""
    # Valid from yesterday: a controller's clock may be set back after its first start.
    builder = _builder(
        key, f"sysreg token signing {now:%Y-%m-%d}", now - timedelta(days=1), now + timedelta(days=days)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _builder(
    key: ec.EllipticCurvePrivateKey, common_name: str, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
