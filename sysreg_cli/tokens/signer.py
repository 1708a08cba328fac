"""Signing registry tokens: JWT, ES256, certificate in ``x5c`` (distribution 2.8 and 3.x accept it)."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import orjson
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from jwt.algorithms import ECAlgorithm

from sysreg_cli.errors import SettingsError
from sysreg_cli.settings import Settings
from sysreg_cli.tokens.access import Access

# The registry accepts a token this long past its `exp` (measured, 2.8 and 3.x; not configurable).
REGISTRY_LEEWAY = 60

# Clients keep a token for at least 60 s whatever `expires_in` says. A write token that is accepted this much
# longer than they keep it is never refused in use, and the drain before a collection stays short.
_WRITE_MARGIN = 5


def write_token_lifetime(write_lifetime: int) -> int:
    """Seconds from issue to ``exp`` of a write token that clients may keep ``write_lifetime`` seconds.

    The registry's leeway comes on top, so that it accepts the token for ``write_lifetime + 5`` seconds.
    """
    return write_lifetime - REGISTRY_LEEWAY + _WRITE_MARGIN


def write_token_accepted(write_lifetime: int) -> int:
    """Seconds for which the registry accepts a write token, from its issue: how long a drain has to wait."""
    return write_token_lifetime(write_lifetime) + REGISTRY_LEEWAY


class TokenSigner:
    """Signs tokens with one P-256 key, whose certificate the registry has in its ``rootcertbundle``."""

    def __init__(
        self,
        key: ec.EllipticCurvePrivateKey,
        certificates: Sequence[x509.Certificate],
        issuer: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        header = {
            "typ": "JWT",
            "alg": "ES256",
            "x5c": [base64.b64encode(one.public_bytes(Encoding.DER)).decode() for one in certificates],
        }
        # The header is the same for every token, and the larger part of it: encoded once.
        self._header = _segment(header)
        self._algorithm: ECAlgorithm = ECAlgorithm(ECAlgorithm.SHA256)
        self._key = key
        self._issuer = issuer
        self._clock = clock
        #: SHA-256 of the certificate whose key signs, in hex: says which key is in use and no more
        self.fingerprint = certificates[0].fingerprint(hashes.SHA256()).hex()

    @classmethod
    def load(cls, settings: Settings) -> TokenSigner:
        """Read key and certificate as ``settings.token_server`` names them.

        The certificate is the first one of its file that belongs to the key; those before it are passed over.
        In the middle of a rollover the file holds the certificates of two keys, so that whichever key is
        read, its certificate is there.

        Raises SettingsError if a file can't be read, isn't a P-256 key, or the two don't match.
        """
        ours = settings.token_server
        key_file, certificate_file = ours.signing_key, ours.signing_certificate
        try:
            key = load_pem_private_key(_read(key_file), None)
        except (ValueError, TypeError):
            raise _refused(f"{key_file}: not an unencrypted private key in PEM") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise _refused(f"{key_file}: not an ECDSA P-256 key")
        try:
            certificates = x509.load_pem_x509_certificates(_read(certificate_file))
        except ValueError:
            raise _refused(f"{certificate_file}: holds no certificate in PEM") from None
        wanted = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        matching = [n for n, one in enumerate(certificates) if _public_bytes(one) == wanted]
        if not matching:
            raise _refused(f"{certificate_file}: is not the certificate of {key_file}")
        return cls(key, certificates[matching[0] :], ours.issuer)

    def sign(self, subject: str, access: Sequence[Access], *, lifetime: float, service: str) -> str:
        """A token for ``subject``, a user name, with exactly ``access``; it ends ``lifetime`` seconds ahead.

        ``service`` becomes the audience: the registry's ``auth.token.service``. Whoever issues a write token
        has to hold the write lock meanwhile; the signer doesn't know about it.
        """
        now = int(self._clock())
        claims = {
            "iss": self._issuer,
            "sub": subject,
            "aud": service,
            "exp": now + int(lifetime),
            "nbf": now,
            "iat": now,
            "jti": secrets.token_urlsafe(16),
            "access": [{"type": one.type, "name": one.name, "actions": one.actions} for one in access],
        }
        signed = self._header + b"." + _segment(claims)
        return (signed + b"." + _base64url(self._algorithm.sign(signed, self._key))).decode()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _segment(value: object) -> bytes:
    return _base64url(orjson.dumps(value))


def _public_bytes(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _refused(f"{path}: {error.strerror}") from None


def _refused(problem: str) -> SettingsError:
    return SettingsError("no token can be signed", [problem], next_step="run sysreg-deploy as root")
