"""A private key block -> key, or the reason against it (PKCS8, PKCS1, SEC1; encrypted in any usual way)."""

from __future__ import annotations

import base64
import math

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sysreg_cli.pki import der
from sysreg_cli.pki.pem import PemBlock

ServerKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

#: Go's TLS refuses larger RSA keys in a handshake (CVE-2023-29409), so docker and containerd cannot connect.
MAX_RSA_BITS = 8192
MIN_RSA_BITS = 2048
CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}

# Limits for deriving a key from the passphrase: a file of 1 KiB must not keep the agent busy for hours.
_MAX_ITERATIONS = 5_000_000
_MAX_SCRYPT = 2**21  # N * r * p; times 128 bytes of memory
_OID_SCRYPT = bytes.fromhex("2b06010401da47040b")


class KeyProblem(ValueError):
    """Why a private key cannot be used. It never holds a part of the key or the passphrase."""


def load(block: PemBlock, passphrase: bytes | None) -> ServerKey:
    """Load the key in ``block``. A passphrase for a key that is not encrypted is ignored.

    Raises KeyProblem.
    """
    if block.label not in ("PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"):
        raise KeyProblem(f"the private key is a {block.label}; RSA and ECDSA keys are accepted")
    encrypted = block.label == "ENCRYPTED PRIVATE KEY" or b"\nProc-Type: 4,ENCRYPTED\n" in block.text
    if encrypted and not passphrase:
        raise KeyProblem("the private key is encrypted and no passphrase was given")
    if block.label == "ENCRYPTED PRIVATE KEY":
        _check_derivation(block)
    password = passphrase if encrypted else None
    try:
        # To validate a huge RSA key takes minutes. Its size is known without that.
        key = serialization.load_pem_private_key(block.text, password, unsafe_skip_rsa_key_validation=True)
        if isinstance(key, rsa.RSAPrivateKey) and key.key_size <= MAX_RSA_BITS:
            key = serialization.load_pem_private_key(block.text, password)
    except UnsupportedAlgorithm:
        raise KeyProblem("the private key, or its encryption, is of an unknown kind") from None
    except (ValueError, TypeError, OverflowError):
        raise KeyProblem(
            "the private key cannot be decrypted: wrong passphrase, or damaged"
            if encrypted
            else "the private key is damaged"
        ) from None
    if isinstance(key, rsa.RSAPrivateKey):
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            raise KeyProblem(
                f"the private key is RSA {key.key_size}; {MIN_RSA_BITS} to {MAX_RSA_BITS} bits are accepted"
            )
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey):
        if key.curve.name not in CURVES:
            raise KeyProblem(
                f"the private key is on the curve {key.curve.name}; P-256, P-384, P-521 are accepted"
            )
        return key
    raise KeyProblem("the private key is neither RSA nor ECDSA")


def to_pem(key: ServerKey) -> bytes:
    """Return the key as unencrypted PKCS8, which the registry (Go) and the daemons (OpenSSL) load."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _check_derivation(block: PemBlock) -> None:
    """Limit the work that an EncryptedPrivateKeyInfo (RFC 5958) demands of PBES1, PBES2 or scrypt."""
    body = b"".join(
        line for line in block.text.splitlines() if b":" not in line and not line.startswith(b"-")
    )
    try:
        _, content, _ = der.read(base64.b64decode(body))
        _, algorithm, _ = der.read(content)
        numbers = der.integers(algorithm)
    except ValueError:
        raise KeyProblem("the encrypted private key is damaged") from None
    cost = math.prod(max(number, 1) for number in numbers[:3])
    if max(numbers, default=0) > _MAX_ITERATIONS or (_OID_SCRYPT in algorithm and cost > _MAX_SCRYPT):
        raise KeyProblem("decrypting the private key would take too long: encrypt it with fewer iterations")
