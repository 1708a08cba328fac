"""A registry token as the credential of a call of the agent: ``Authorization: Bearer ...``.

A client of the registry already has a token for what it does there, and a Keystone token would cost it half a
second more. The agent checks a registry token as the registry does: the signature with the certificates in
the registry's ``rootcertbundle``, issuer, audience and times. The token's claim ``access`` alone says what
its sender may do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

import jwt
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from sysreg_cli.agent.identity import Caller, Role
from sysreg_cli.errors import NotAuthenticated, SettingsError
from sysreg_cli.settings import Settings
from sysreg_cli.tokens.access import Access
from sysreg_cli.tokens.times import REGISTRY_LEEWAY, SET_CLOCKS

_GET_ANOTHER = "get a new one from the token server"
_CLAIMS = ["iss", "aud", "sub", "exp", "nbf", "iat", "access"]


def bearer_token(authorization: str | None) -> str | None:
    """Return the token in a header ``Authorization``, None if it has none (RFC 6750)."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def caller_with(token: str, settings: Settings) -> Caller:
    """Return the caller who sent ``token``.

    Raises NotAuthenticated for a token that the registry would refuse, SettingsError if the registry's
    certificates cannot be read.
    """
    claims = _claims(token, settings)
    try:
        access = tuple(_access(entry) for entry in claims["access"])
    except (TypeError, LookupError, AttributeError):
        raise NotAuthenticated("the registry token has an unusable claim access") from None
    return Caller(claims["sub"], Role.NONE, access=access)


def _claims(token: str, settings: Settings) -> dict[str, Any]:
    refused: Exception | None = None
    for key in _trusted_keys(settings):
        try:
            # Only this algorithm: with another one, or none, anybody could sign.
            return jwt.decode(
                token,
                key,
                algorithms=["ES256"],
                issuer=settings.token_server.issuer,
                audience=settings.registry.address,
                leeway=REGISTRY_LEEWAY,
                options={"require": _CLAIMS},
            )
        except jwt.InvalidSignatureError as error:  # the key of another certificate may be the right one
            refused = error
        except (jwt.InvalidTokenError, ValueError, TypeError, RecursionError) as error:
            refused = error
            break
    raise _refusal(refused, settings)


def _refusal(error: Exception | None, settings: Settings) -> NotAuthenticated:
    match error:
        case jwt.ExpiredSignatureError():
            return NotAuthenticated("the registry token has expired", next_step=_GET_ANOTHER)
        case jwt.ImmatureSignatureError():
            return NotAuthenticated("the registry token is not valid yet", next_step=SET_CLOCKS)
        case jwt.InvalidAudienceError():
            reason = f"is not for {settings.registry.address}"
        case jwt.InvalidIssuerError() | jwt.InvalidSignatureError() | jwt.InvalidAlgorithmError():
            reason = "is not of the token server of this registry"
        case _:
            reason = "cannot be read, or lacks a claim"
    return NotAuthenticated(f"the registry token {reason}", next_step=_GET_ANOTHER)


def _trusted_keys(settings: Settings) -> list[ec.EllipticCurvePublicKey]:
    """Return the keys that the registry trusts: of one certificate, or of several during a rollover."""
    path = settings.token_server.trust_bundle
    try:
        certificates = x509.load_pem_x509_certificates(path.read_bytes())
        return [key for it in certificates if _is_p256(key := it.public_key())]
    except OSError as error:
        problem = f"{path}: {error.strerror}"
    except (ValueError, UnsupportedAlgorithm):
        problem = f"{path}: holds no certificate in PEM that can be read"
    raise SettingsError("no registry token can be checked", [problem], next_step="run sysreg-deploy as root")


def _is_p256(key: object) -> TypeGuard[ec.EllipticCurvePublicKey]:
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)


def _access(entry: Mapping[str, Any]) -> Access:
    return Access(str(entry["type"]), str(entry["name"]), tuple(map(str, entry["actions"])))
