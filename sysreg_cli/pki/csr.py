"""Certificate signing requests (PKCS #10, RFC 2986) for the registry, with new keys."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sysreg_cli.pki import keys
from sysreg_cli.pki.keys import ServerKey
from sysreg_cli.pki.selfsigned import TLS_SERVER_USAGE, general_names
from sysreg_cli.v1.certificates import KeyKind


def make_request(names: Sequence[str], kind: KeyKind) -> tuple[bytes, bytes]:
    """Make a key (PKCS8 PEM), and a request (PEM) for DNS names and IP addresses.

    The first name is also the subject.
    """
    key = _new_key(kind)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .add_extension(general_names(names), critical=False)
        .add_extension(TLS_SERVER_USAGE, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA384() if kind is KeyKind.P384 else hashes.SHA256())
    )
    return keys.to_pem(key), request.public_bytes(serialization.Encoding.PEM)


def key_id(public_key: object) -> str:
    """Return a UUID that is the same for the same public key: it joins a certificate and its request.

    Returns "" for a key that is neither RSA nor ECDSA.
    """
    if not isinstance(public_key, (rsa.RSAPublicKey, ec.EllipticCurvePublicKey)):
        return ""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    encoded = public_key.public_bytes(serialization.Encoding.DER, form)
    return str(uuid.uuid5(uuid.NAMESPACE_OID, encoded.hex()))


def _new_key(kind: KeyKind) -> ServerKey:
    match kind:
        case KeyKind.RSA3072:
            return rsa.generate_private_key(65537, 3072)
        case KeyKind.P384:
            return ec.generate_private_key(ec.SECP384R1())
        case KeyKind.P256:
            return ec.generate_private_key(ec.SECP256R1())


def names_of(request: x509.CertificateSigningRequest) -> tuple[str, ...]:
    """Return the DNS names and IP addresses of a request."""
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return tuple(str(name.value) for name in names)


def kind_of(request: x509.CertificateSigningRequest) -> KeyKind:
    """Return the kind of the key of a request that ``make_request`` made."""
    key = request.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return KeyKind.RSA3072
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return KeyKind.P384 if key.key_size == 384 else KeyKind.P256
