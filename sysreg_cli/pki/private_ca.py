"""A CA of sysreg's own, for the TLS between the hosts of a cluster and etcd.

Its certificates have no common name: etcd takes that of a client for the user, and its gateway refuses such
clients (docs/behaviour.rst, "etcd"). Names are subject alternative names alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sysreg_cli.pki.keys import to_pem
from sysreg_cli.pki.selfsigned import TLS_SERVER_USAGE, general_names

_DAYS = 3650
#: a certificate that ends within this time is replaced
_RENEW = timedelta(days=365)
_CA_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True)
class Pair:
    """A private key and its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def load(cls, key: bytes, certificate: bytes) -> Pair:
        """Load both from PEM. Raises ValueError that says what is wrong."""
        try:
            loaded = load_pem_private_key(key, None)
            parsed = x509.load_pem_x509_certificate(certificate)
            own = parsed.public_key()
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ValueError("is damaged") from None
        if not isinstance(loaded, ec.EllipticCurvePrivateKey) or loaded.public_key() != own:
            raise ValueError("does not belong to its certificate")
        return cls(loaded, parsed)

    @property
    def key_pem(self) -> bytes:
        return to_pem(self.key)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def problem(self, authority: x509.Certificate, names: Sequence[str], now: datetime) -> str:
        """Say why it has to be replaced. Empty if it is good."""
        try:
            self.certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            return "is not from this CA"
        if now >= self.certificate.not_valid_after_utc - _RENEW:
            return f"ends at {self.certificate.not_valid_after_utc:%Y-%m-%d}"
        try:
            present = self.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            present = None
        return "" if present == (general_names(names) if names else None) else "has other names"


def make_authority(now: datetime) -> Pair:
    """Make a CA. It may sign servers and clients, and no other CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    # two CAs with one name would be one for a client that trusts both
    name = _name(f"sysreg cluster {secrets.token_hex(4)}")
    builder = _builder(key, name, name, now, x509.BasicConstraints(ca=True, path_length=0), _CA_USAGE)
    return Pair(key, builder.sign(key, hashes.SHA256()))


def issue(authority: Pair, names: Sequence[str], now: datetime) -> Pair:
    """Issue a certificate for a server at ``names``, or for a client if there are none."""
    key = ec.generate_private_key(ec.SECP256R1())
    constraints = x509.BasicConstraints(ca=False, path_length=None)
    builder = _builder(
        key, _name("sysreg"), authority.certificate.subject, now, constraints, TLS_SERVER_USAGE
    )
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if names:
        # etcd's gateway is a client of its own server, with the same certificate
        usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        builder = builder.add_extension(general_names(names), critical=False)
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
    )
    return Pair(key, builder.sign(authority.key, hashes.SHA256()))


def _builder(
    key: ec.EllipticCurvePrivateKey,
    subject: x509.Name,
    issuer: x509.Name,
    now: datetime,
    constraints: x509.BasicConstraints,
    usage: x509.KeyUsage,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Valid from yesterday: clocks of hosts differ, and may be set back after the first start.
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(constraints, critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(organization: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)])


def revoke(authority: Pair, revoked: bytes | None, serials: Collection[int], now: datetime) -> bytes:
    """Return a list of revoked certificates (PEM): those of the list ``revoked``, and ``serials``.

    Raises ValueError if ``revoked`` is damaged.
    """
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now - timedelta(days=1))
        .next_update(now + timedelta(days=_DAYS))
    )
    old = x509.load_pem_x509_crl(revoked) if revoked is not None else ()
    dates = {entry.serial_number: entry.revocation_date_utc for entry in old}
    for serial in serials:
        dates.setdefault(serial, now)
    for serial, date in dates.items():
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(date).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(authority.key, hashes.SHA256()).public_bytes(Encoding.PEM)
