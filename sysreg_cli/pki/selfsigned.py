"""A self-signed server certificate, so that a new controller serves TLS before its operator brings one."""

from __future__ import annotations

import ipaddress
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
    """A new P-256 key (PKCS8 PEM) and its certificate (PEM) for ``host_names`` and IP ``addresses``.

    It passes ``check_server``: no CA, so that its key can sign for no other name.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host_names[0][:64])])
    found = [as_address(host) or host for host in host_names] + [
        ipaddress.ip_address(one) for one in addresses
    ]
    sans = [
        x509.DNSName(one) if isinstance(one, str) else x509.IPAddress(one) for one in dict.fromkeys(found)
    ]
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A client whose clock is a little behind accepts it too.
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, **usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(sans), critical=False)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return to_pem(key), certificate.public_bytes(serialization.Encoding.PEM)
