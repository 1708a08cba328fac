"""Everything the rules ask about one certificate, read from it once.

cryptography parses lazily: a damaged extension raises only when it is asked for. Reading all of it here means
that the rules themselves are plain comparisons and cannot fail.
"""

from __future__ import annotations

import functools
import ipaddress
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import ParamSpec, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sysreg_cli.pki import weaknesses
from sysreg_cli.pki.names import Address, Network

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

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


class CertificateProblem(ValueError):
    """Why a certificate cannot be read, in words."""


@dataclass(frozen=True, slots=True)
class Constraints:
    """A CA's name constraints; ``None`` means that names of the kind are not limited."""

    permitted_dns: tuple[str, ...] | None = None
    permitted_networks: tuple[Network, ...] | None = None
    excluded_dns: tuple[str, ...] = ()
    excluded_networks: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """One certificate, read. ``weaknesses`` are what no mode accepts, in words."""

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
    constraints: Constraints
    verifiable: bool  # whether its signature is of a kind that counts
    weaknesses: tuple[str, ...]

    @property
    def self_issued(self) -> bool:
        return self.subject_der == self.issuer_der

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def quietly(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Keep cryptography's warnings about odd input off stderr: our rules say what is wrong with it."""

    @functools.wraps(function)
    def quiet(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        with warnings.catch_warnings(action="ignore"):
            return function(*args, **kwargs)

    return quiet


def load(pem: bytes) -> x509.Certificate:
    """One PEM block -> certificate. Raises CertificateProblem."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except PARSE_ERRORS:
        raise CertificateProblem("is damaged: not an X.509 certificate") from None


def read(certificate: x509.Certificate) -> Facts:
    """All facts of ``certificate``. Raises CertificateProblem where one of them cannot be read."""
    try:
        return _read(certificate)
    except PARSE_ERRORS as error:
        if isinstance(error, CertificateProblem):
            raise
        raise CertificateProblem(f"is damaged: {printable(str(error) or type(error).__name__)}") from None


def printable(text: str, most: int = 200) -> str:
    """``text`` as one line that is safe for a terminal and a log."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown if len(shown) <= most else shown[:most] + "..."


def subject_of(certificate: x509.Certificate) -> str:
    """The subject as RFC 4514 writes it, most significant part first as OpenSSL shows it, on one line."""
    return printable(certificate.subject.rfc4514_string(), 1000)


def short_name(certificate: x509.Certificate) -> str:
    """The common name, else the whole subject: what a person calls this certificate."""
    try:
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return printable(str(names[0].value) if names else subject_of(certificate), 80)
    except PARSE_ERRORS:
        return ""


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
        constraints=_constraints(_extension(extensions, x509.NameConstraints)),
        verifiable=not any(weaknesses.of_signature(certificate)),
        weaknesses=tuple(weaknesses.of(certificate)),
    )


def _extension(extensions: x509.Extensions, kind: type[_Extension]) -> _Extension | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _addresses(names: x509.SubjectAlternativeName | None) -> tuple[Address, ...]:
    found = names.get_values_for_type(x509.IPAddress) if names else ()
    kinds = (ipaddress.IPv4Address, ipaddress.IPv6Address)
    return tuple(dict.fromkeys(one for one in found if isinstance(one, kinds)))


def _constraints(extension: x509.NameConstraints | None) -> Constraints:
    if extension is None:
        return Constraints()
    permitted, excluded = extension.permitted_subtrees or [], extension.excluded_subtrees or []
    return Constraints(
        permitted_dns=_dns(permitted) or None,
        permitted_networks=_networks(permitted) or None,
        excluded_dns=_dns(excluded),
        excluded_networks=_networks(excluded),
    )


def _dns(subtrees: Iterable[x509.GeneralName]) -> tuple[str, ...]:
    return tuple(one.value for one in subtrees if isinstance(one, x509.DNSName))


def _networks(subtrees: Iterable[x509.GeneralName]) -> tuple[Network, ...]:
    values = [one.value for one in subtrees if isinstance(one, x509.IPAddress)]
    return tuple(one for one in values if isinstance(one, ipaddress.IPv4Network | ipaddress.IPv6Network))
