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

TLS_SERVER_USAGE = x509.KeyUsage(
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


def general_names(hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    """Return the subject alternative names for DNS names and IP addresses, each once."""
    values = dict.fromkeys(as_address(host) or host for host in hosts)
    return x509.SubjectAlternativeName(
        [x509.DNSName(value) if isinstance(value, str) else x509.IPAddress(value) for value in values]
    )


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
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        # Valid from five minutes ago, for clients whose clock is a little behind.
        _builder(key, host_names[0], now - timedelta(minutes=5), now + timedelta(days=days))
        .add_extension(TLS_SERVER_USAGE, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(general_names((*host_names, *addresses)), critical=False)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return to_pem(key), certificate.public_bytes(serialization.Encoding.PEM)


def renewal_time(
    chain: Sequence[x509.Certificate], host_names: Sequence[str], *, min_days: int
) -> datetime | None:
    """Return when sysreg renews ``chain``: ``min_days`` before its end. None if it is not sysreg's to renew.

    sysreg renews what ``self_signed`` made for ``host_names``. One with further names is the operator's. The
    time is in the last third of the lifetime at the earliest, so a new certificate is never due at once.
    """
    if len(chain) != 1 or chain[0].issuer != chain[0].subject or not chain[0].subject.rdns:
        return None
    leaf = chain[0]
    if not _names(leaf) <= {str(as_address(name) or name) for name in host_names}:
        return None
    lifetime = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    return leaf.not_valid_after_utc - min(timedelta(days=min_days), lifetime / 3)


def lacks_a_name(chain: Sequence[x509.Certificate], host_names: Sequence[str]) -> bool:
    """Whether ``chain`` is one self-signed certificate that is not for each of ``host_names``."""
    if len(chain) != 1 or chain[0].issuer != chain[0].subject:
        return False
    return not {str(as_address(name) or name) for name in host_names} <= _names(chain[0])


def _names(leaf: x509.Certificate) -> set[str]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    addresses = names.get_values_for_type(x509.IPAddress)
    return {*names.get_values_for_type(x509.DNSName), *map(str, addresses)}


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
