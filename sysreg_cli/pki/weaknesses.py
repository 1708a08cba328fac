"""What makes one certificate unfit in every mode: its key, its signature, its encoding.

It refuses weak keys and hashes. It also refuses what Go's crypto/x509 refuses and cryptography accepts:
docker, containerd and skopeo would not accept the certificate, and the registry could not load it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtensionOID, SignatureAlgorithmOID

from sysreg_cli.pki import der
from sysreg_cli.pki.keys import CURVES, MAX_RSA_BITS, MIN_RSA_BITS

# Critical extensions that Go's crypto/x509 and OpenSSL both handle. Clients refuse any other.
_MAY_BE_CRITICAL = frozenset(
    {
        ExtensionOID.KEY_USAGE,
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
    }
)
_KNOWN_SIGNATURES = frozenset(
    {
        SignatureAlgorithmOID.RSA_WITH_SHA256,
        SignatureAlgorithmOID.RSA_WITH_SHA384,
        SignatureAlgorithmOID.RSA_WITH_SHA512,
        SignatureAlgorithmOID.RSASSA_PSS,
        SignatureAlgorithmOID.ECDSA_WITH_SHA256,
        SignatureAlgorithmOID.ECDSA_WITH_SHA384,
        SignatureAlgorithmOID.ECDSA_WITH_SHA512,
    }
)
_WEAK_SIGNATURES = {
    SignatureAlgorithmOID.RSA_WITH_MD5: "MD5; SHA-256 or better is needed",
    SignatureAlgorithmOID.RSA_WITH_SHA1: "SHA-1; SHA-256 or better is needed",
    SignatureAlgorithmOID.ECDSA_WITH_SHA1: "SHA-1; SHA-256 or better is needed",
    SignatureAlgorithmOID.DSA_WITH_SHA1: "SHA-1; SHA-256 or better is needed",
}

_DOMAIN = re.compile(r"\.?[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")
# scheme, then user@host:port if it has one, then the rest; a percent sign only before two hex digits
_URI = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*:"
    r"(//([A-Za-z0-9._~!$&'()*+,;=:-]*@)?([A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*)?(:[0-9]{0,5})?(?=[/?#]|$))?"
    r"([!$&-;=?-Z_a-z~#@]|%[0-9A-Fa-f]{2})*"
)
_MAILBOX = re.compile(r"([A-Za-z0-9._+-]+@)?" + _DOMAIN.pattern)

_UTF8_STRING = 12
# tag of the other string types (X.680) -> their characters, as Go's crypto/x509 checks them
_STRINGS = {
    18: re.compile(rb"[0-9 ]*"),  # NumericString
    19: re.compile(rb"[A-Za-z0-9 '()+,./:=?*&-]*"),  # PrintableString; Go accepts * and &, which are common
    20: re.compile(rb"[\x00-\xff]*"),  # T61String
    22: re.compile(rb"[\x00-\x7f]*"),  # IA5String
    30: re.compile(rb"(?:[\x00-\xff]{2})*"),  # BMPString
}


def of_key(certificate: x509.Certificate) -> Iterator[str]:
    try:
        key = certificate.public_key()
    except UnsupportedAlgorithm:
        yield "its key is of an unknown kind; RSA and ECDSA on P-256, P-384, P-521 are accepted"
        return
    if isinstance(key, rsa.RSAPublicKey):
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            yield f"its key is RSA of {key.key_size} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are accepted"
        exponent = key.public_numbers().e
        if not 3 <= exponent < 2**31 or exponent % 2 == 0:
            yield "its RSA key has a public exponent that clients refuse; 65537 is usual"
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name not in CURVES:
            yield f"its key is on the curve {key.curve.name}; P-256, P-384, P-521 are accepted"
            return
        point = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
        if point not in certificate.tbs_certificate_bytes:
            yield "its key is a compressed curve point, which Go's clients refuse"
            return
    else:
        yield "its key is neither RSA nor ECDSA"
        return
    usual = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if usual not in certificate.tbs_certificate_bytes:
        # Go's parser refuses explicit curve parameters, an RSASSA-PSS key, and missing NULL parameters.
        yield "its key is encoded in a way that Go's clients refuse; use a named curve, or a plain RSA key"


def of_signature(certificate: x509.Certificate) -> Iterator[str]:
    oid = certificate.signature_algorithm_oid
    if oid not in _KNOWN_SIGNATURES:
        # The OID's name is not public API, and its number does not help an operator.
        yield f"it is signed with {_WEAK_SIGNATURES.get(oid, 'an algorithm that clients do not know')}"
        return
    algorithm = certificate.signature_hash_algorithm
    if not isinstance(algorithm, hashes.SHA256 | hashes.SHA384 | hashes.SHA512):
        weak = algorithm.name.upper() if algorithm else "no hash"
        yield f"it is signed with {weak}; SHA-256 or better is needed"
    elif oid == SignatureAlgorithmOID.RSASSA_PSS:
        parameters = certificate.signature_algorithm_parameters
        mask = parameters._mgf._algorithm if isinstance(parameters, padding.PSS) else None
        salt = parameters._salt_length if isinstance(parameters, padding.PSS) else None
        if mask != algorithm or salt != algorithm.digest_size:
            yield "it is signed with unusual RSASSA-PSS parameters, which Go's clients refuse"


def of_form(certificate: x509.Certificate) -> Iterator[str]:
    if certificate.version is not x509.Version.v3:
        # RFC 5280 4.1.2.1 demands version 3 for extensions. Go reads none in a certificate of version 1.
        yield "it is of X.509 version 1, whose extensions clients do not read; version 3 is needed"
    encoded = certificate.public_bytes(serialization.Encoding.DER)
    inside, outside = der.signature_algorithms(encoded, certificate.tbs_certificate_bytes)
    if inside != outside:
        yield "it names two different signature algorithms, which clients refuse"
    for which, name in (("subject", certificate.subject), ("issuer", certificate.issuer)):
        if not all(_is_text(tag, content) for tag, content in der.name_strings(name.public_bytes())):
            yield f"its {which} has text in an encoding that Go's clients refuse"
    if certificate.serial_number < 0:
        yield "its serial number is negative, which Go's clients refuse"
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _MAY_BE_CRITICAL:
            yield f"clients do not understand its critical extension {extension.oid.dotted_string}"
        if isinstance(extension.value, x509.SubjectAlternativeName):
            uris = extension.value.get_values_for_type(x509.UniformResourceIdentifier)
            if not all(_URI.fullmatch(uri) for uri in uris):
                yield "it has a URI among its names that Go's clients cannot parse"
        if isinstance(extension.value, x509.NameConstraints):
            yield from _of_constraints(extension.value, critical=extension.critical)


def _of_constraints(constraints: x509.NameConstraints, *, critical: bool) -> Iterator[str]:
    for subtree in (*(constraints.permitted_subtrees or ()), *(constraints.excluded_subtrees or ())):
        match subtree:
            case x509.IPAddress():
                pass
            case x509.DNSName():
                if subtree.value and not _DOMAIN.fullmatch(subtree.value):
                    yield "its name constraints have a DNS name that Go's clients cannot parse"
            case x509.UniformResourceIdentifier():
                if not _DOMAIN.fullmatch(subtree.value):
                    yield "its name constraints have a URI that Go's clients cannot parse"
            case x509.RFC822Name():
                if not _MAILBOX.fullmatch(subtree.value):
                    yield "its name constraints have a mail address that Go's clients cannot parse"
            case _ if critical:
                yield "its critical name constraints are of a kind that Go's clients refuse"


def _is_text(tag: int, content: bytes) -> bool:
    """Whether Go's crypto/x509 accepts this value of a name."""
    if tag == _UTF8_STRING:
        try:
            content.decode()
        except UnicodeDecodeError:
            return False
        return True
    return tag in _STRINGS and _STRINGS[tag].fullmatch(content) is not None
