"""Signs registry tokens: JWT, ES256, with the certificate in ``x5c``. distribution 2.8 and 3.x accept them.

PyJWT signs, but the token is put together here: its header is the same each time, and the larger part of it.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import orjson
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from jwt.algorithms import ECAlgorithm

from sysreg_cli.errors import SettingsError
from sysreg_cli.settings import Settings
from sysreg_cli.tokens.access import Access
from sysreg_cli.tokens.times import REGISTRY_LEEWAY

# Clients keep a token for at least 60 s, whatever `expires_in` says. The registry accepts a write token for
# these seconds longer than clients keep it. So it refuses none in use, and a drain is short.
_WRITE_MARGIN = 5


def write_token_lifetime(write_lifetime: int) -> int:
    """Return the seconds from issue to ``exp`` of a write token that clients keep for ``write_lifetime``."""
    return write_lifetime - REGISTRY_LEEWAY + _WRITE_MARGIN


def write_token_accepted(write_lifetime: int) -> int:
    """Return the seconds for which the registry accepts a write token. A drain waits for them."""
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
        chain = [certificate.public_bytes(Encoding.DER) for certificate in certificates]
        self._header = _segment(
            {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(der).decode() for der in chain]}
        )
        self._algorithm: ECAlgorithm = ECAlgorithm(ECAlgorithm.SHA256)
        self._key = key
        self._issuer = issuer
        self._clock = clock
        #: SHA-256 of the certificate whose key signs, in hex
        self.fingerprint = certificates[0].fingerprint(hashes.SHA256()).hex()

    @classmethod
    def load(cls, settings: Settings) -> TokenSigner:
        """Load the key and the certificate that ``settings.token_server`` names.

        Skips certificates of other keys in front of the key's own. During a rollover the file holds the
        certificates of two keys, so that either key finds its certificate.

        Raises SettingsError if a file can't be read, isn't a P-256 key, or the two don't match.
        """
        key_file = settings.token_server.signing_key
        certificate_file = settings.token_server.signing_certificate
        try:
            key = load_pem_private_key(_read(key_file), None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise _refused(f"{key_file}: not an unencrypted private key in PEM") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise _refused(f"{key_file}: not an ECDSA P-256 key")
        try:
            certificates = x509.load_pem_x509_certificates(_read(certificate_file))
            while certificates and certificates[0].public_key() != key.public_key():
                del certificates[0]
        except (ValueError, UnsupportedAlgorithm):
            raise _refused(f"{certificate_file}: holds no certificate in PEM that can be read") from None
        if not certificates:
            raise _refused(f"{certificate_file}: is not the certificate of {key_file}")
        return cls(key, certificates, settings.token_server.issuer)

    def sign(self, subject: str, access: Sequence[Access], *, lifetime: float, service: str) -> str:
        """Return a token for the user ``subject`` with exactly ``access``, for ``lifetime`` seconds.

        ``service`` becomes the audience: the registry's ``auth.token.service``. A caller that issues a write
        token has to hold the write lock meanwhile.
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
            "access": [
                {"type": entry.type, "name": entry.name, "actions": entry.actions} for entry in access
            ],
        }
        signed = self._header + b"." + _segment(claims)
        return (signed + b"." + _base64url(self._algorithm.sign(signed, self._key))).decode()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _segment(value: object) -> bytes:
    return _base64url(orjson.dumps(value))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _refused(f"{path}: {error.strerror}") from None


def _refused(problem: str) -> SettingsError:
    return SettingsError("no token can be signed", [problem], next_step="run sysreg-deploy as root")
