"""Everything that the rules ask about one certificate, read from it once.

cryptography parses lazily: a damaged extension raises only when it is read. This module reads all of them, so
the rules are plain comparisons that cannot fail.
"""

from __future__ import annotations

import contextlib
import ipaddress
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sysreg_cli.pki import weaknesses
from sysreg_cli.pki.names import Address
from sysreg_cli.text import printable

#: What cryptography raises for input that is not what it should be.
PARSE_ERRORS = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


class CertificateProblem(ValueError):
    """Why a certificate cannot be read."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One certificate, read. ``weaknesses`` are reasons against it in every mode."""

    certificate: x509.Certificate
    subject_der: bytes
    issuer_der: bytes
    not_before: datetime
    not_after: datetime
    fingerprint: str
    is_ca: bool
    path_length: int | None
    may_sign_certificates: bool
    may_sign_handshakes: bool
    for_servers: bool
    dns_names: tuple[str, ...]
    addresses: tuple[Address, ...]
    has_san: bool
    key_identifier: bytes | None
    issuer_key_identifier: bytes | None
    constraints: x509.NameConstraints | None
    #: reasons against its signature; they do not count for a trust anchor, whose signature nobody checks
    signature_weaknesses: tuple[str, ...]
    weaknesses: tuple[str, ...]

    @property
    def self_issued(self) -> bool:
        return self.subject_der == self.issuer_der

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep cryptography's warnings about odd input off stderr. The rules report what is wrong with it."""
    with warnings.catch_warnings(action="ignore"):
        yield


def load(pem: bytes) -> x509.Certificate:
    """Load the certificate of one PEM block. Raises CertificateProblem."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except PARSE_ERRORS:
        raise CertificateProblem("is damaged: not an X.509 certificate") from None


def read(certificate: x509.Certificate) -> Facts:
    """Read all facts of ``certificate``. Raises CertificateProblem if one of them cannot be read."""
    try:
        return _read(certificate)
    except PARSE_ERRORS as error:
        if isinstance(error, CertificateProblem):
            raise
        raise CertificateProblem(
            f"is damaged: {printable(str(error) or type(error).__name__, 200)}"
        ) from None


def subject_of(certificate: x509.Certificate) -> str:
    """Return the subject on one line, as RFC 4514 writes it, or the first name that stands in for it."""
    if not certificate.subject.rdns:
        # RFC 5280 4.1.2.6: then the name is in the subject alternative name, as cert-manager writes it
        with contextlib.suppress(x509.ExtensionNotFound, *PARSE_ERRORS):
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            return printable(str(next(iter(names)).value), 1000)
    return printable(certificate.subject.rfc4514_string(), 1000)


def short_name(certificate: x509.Certificate) -> str:
    """Return what a person calls this certificate: the common name, or else the whole subject."""
    try:
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return printable(str(names[0].value) if names else subject_of(certificate), 80)
    except PARSE_ERRORS:
        return ""


def public_key(certificate: x509.Certificate) -> object:
    """Return the public key, or None if cryptography does not know its kind."""
    try:
        return certificate.public_key()
    except PARSE_ERRORS:
        return None


def _read(certificate: x509.Certificate) -> Facts:
    extensions = certificate.extensions
    basic = _extension(extensions, x509.BasicConstraints)
    usage = _extension(extensions, x509.KeyUsage)
    extended = _extension(extensions, x509.ExtendedKeyUsage)
    names = _extension(extensions, x509.SubjectAlternativeName)
    own_id = _extension(extensions, x509.SubjectKeyIdentifier)
    issuer_id = _extension(extensions, x509.AuthorityKeyIdentifier)
    return Facts(
        certificate=certificate,
        subject_der=certificate.subject.public_bytes(),
        issuer_der=certificate.issuer.public_bytes(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        is_ca=basic is not None and basic.ca,
        path_length=basic.path_length if basic is not None else None,
        may_sign_certificates=usage is None or usage.key_cert_sign,
        may_sign_handshakes=usage is None or usage.digital_signature,
        # OpenSSL does not take anyExtendedKeyUsage for a server, so serverAuth itself must be there.
        for_servers=extended is None or ExtendedKeyUsageOID.SERVER_AUTH in extended,
        dns_names=tuple(dict.fromkeys(names.get_values_for_type(x509.DNSName))) if names else (),
        addresses=_addresses(names),
        has_san=names is not None,
        key_identifier=own_id.digest if own_id else None,
        issuer_key_identifier=issuer_id.key_identifier if issuer_id else None,
        constraints=_extension(extensions, x509.NameConstraints),
        signature_weaknesses=tuple(weaknesses.of_signature(certificate)),
        weaknesses=(*weaknesses.of_key(certificate), *weaknesses.of_form(certificate)),
    )


def _extension(extensions: x509.Extensions, kind: type[_Extension]) -> _Extension | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _addresses(names: x509.SubjectAlternativeName | None) -> tuple[Address, ...]:
    values = names.get_values_for_type(x509.IPAddress) if names else ()
    kinds = (ipaddress.IPv4Address, ipaddress.IPv6Address)
    return tuple(dict.fromkeys(value for value in values if isinstance(value, kinds)))
