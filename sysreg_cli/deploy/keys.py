"""What is made once on each controller and never leaves it: its token-signing key, the registry's secret."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from sysreg_cli.deploy.items import Change, Context, attributes, put_back, together, write
from sysreg_cli.errors import SettingsError
from sysreg_cli.pki.keys import to_pem
from sysreg_cli.pki.selfsigned import signing_certificate
from sysreg_cli.settings import Settings
from sysreg_cli.tokens.signer import TokenSigner

TOKEN_GROUP = "sysreg-token"  # noqa: S105 - the name of a group


@dataclass(frozen=True)
class SigningPair:
    """The token-signing key and its certificate; a good pair is never replaced."""

    settings: Settings
    restarts: tuple[str, ...] = ()

    @property
    def key(self) -> Path:
        return self.settings.token_server.signing_key

    @property
    def certificate(self) -> Path:
        return self.settings.token_server.signing_certificate

    def compare(self, context: Context) -> Change | None:
        if not self.key.exists() or not self.certificate.exists():
            return Change(f"create a token-signing key in {self.key.parent}")
        try:
            TokenSigner.load(self.settings)
        except SettingsError as error:
            return Change(f"replace the token-signing pair: {'; '.join(error.problems)}")
        return together(
            (
                attributes(self.key, self.key.lstat(), 0o440, "root", TOKEN_GROUP),
                attributes(self.certificate, self.certificate.lstat(), 0o644, "root", "root"),
            )
        )

    def apply(self, context: Context) -> None:
        context.record.make_directory(self.key.parent)
        context.record.make_directory(self.certificate.parent)
        context.record.take(self.key)
        context.record.take(self.certificate)
        key = _p256(self.key)
        if key is None:
            key = ec.generate_private_key(ec.SECP256R1())
        write_key(self.key, key)
        try:
            TokenSigner.load(self.settings)
            content = self.certificate.read_bytes()
        except SettingsError:
            content = signing_certificate(key, now=datetime.now(UTC))
        write(self.certificate, content, mode=0o644)

    def remove(self, context: Context) -> str:
        done = [
            put_back(path, context.record)
            for path in (self.key, self.certificate, *unfinished(self.settings))
        ]
        return "; ".join(one for one in done if one)


@dataclass(frozen=True)
class TokenTrust:
    """The registry's ``rootcertbundle``: the certificates whose tokens it accepts.

    In a rollover these are the next one's and the retired one's, too.
    """

    settings: Settings
    restarts: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        return trust_bundle(self.settings)

    def _wanted(self) -> bytes:
        files = (self.settings.token_server.signing_certificate, *_rollover_certificates(self.settings))
        return bundle(*(path.read_bytes() for path in files if path.exists()))

    def compare(self, context: Context) -> Change | None:
        if not self.path.exists():
            return Change(f"create {self.path}, the token-signing certificates that the registry trusts")
        if self.path.read_bytes() != self._wanted():
            return Change(f"change {self.path}, the token-signing certificates that the registry trusts")
        return attributes(self.path, self.path.lstat(), 0o644, "root", "root")

    def apply(self, context: Context) -> None:
        context.record.make_directory(self.path.parent)
        context.record.take(self.path)
        write(self.path, self._wanted(), mode=0o644)

    def remove(self, context: Context) -> str:
        return put_back(self.path, context.record)


@dataclass(frozen=True)
class RegistryEnvironment:
    """The registry's ``http.secret``, in the environment so that its configuration may be read by all."""

    path: Path
    restarts: tuple[str, ...] = ()

    def compare(self, context: Context) -> Change | None:
        try:
            present = self.path.read_text()
        except FileNotFoundError:
            return Change(f"create {self.path} with a new secret of the registry")
        if not re.fullmatch(r"REGISTRY_HTTP_SECRET=[0-9a-f]{64}\n", present):
            return Change(f"replace {self.path}, which holds no secret of the registry")
        return attributes(self.path, self.path.lstat(), 0o600, "root", "root")

    def apply(self, context: Context) -> None:
        context.record.make_directory(self.path.parent)
        context.record.take(self.path)
        try:
            content = self.path.read_text()
        except FileNotFoundError:
            content = ""
        if not re.fullmatch(r"REGISTRY_HTTP_SECRET=[0-9a-f]{64}\n", content):
            content = f"REGISTRY_HTTP_SECRET={secrets.token_hex(32)}\n"
        write(self.path, content.encode(), mode=0o600)

    def remove(self, context: Context) -> str:
        return put_back(self.path, context.record)


def trust_bundle(settings: Settings) -> Path:
    """Where the registry reads the certificates it accepts tokens of."""
    return settings.token_server.signing_certificate.with_name("trusted.crt")


def next_key(settings: Settings) -> Path:
    """Where a rollover keeps the next token-signing key, until one rename puts it in use."""
    return settings.token_server.signing_key.with_name("next.key")


def next_certificate(settings: Settings) -> Path:
    """Where a rollover keeps the certificate of the next token-signing key."""
    return settings.token_server.signing_certificate.with_name("next.crt")


def retired_certificate(settings: Settings) -> Path:
    """Where a rollover keeps the old certificate until the last token signed with its key has run out."""
    return settings.token_server.signing_certificate.with_name("retired.crt")


def _rollover_certificates(settings: Settings) -> tuple[Path, ...]:
    return next_certificate(settings), retired_certificate(settings)


def unfinished(settings: Settings) -> list[Path]:
    """The files of a rollover that did not come to its end."""
    files = (next_key(settings), *_rollover_certificates(settings))
    return [path for path in files if path.exists()]


def bundle(*pems: bytes, without: bytes = b"") -> bytes:
    """All certificates of ``pems`` but those of ``without``, each once, in order (PEM)."""
    unwanted = _certificates(without)
    found = [one for pem in pems for one in _certificates(pem)]
    kept = [one for n, one in enumerate(found) if one not in unwanted and one not in found[:n]]
    return b"".join(one.public_bytes(Encoding.PEM) for one in kept)


def _certificates(pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        return []  # what is damaged is mended first, and said there


def write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Write a token-signing key for the token server's group. Raises SysregError, OSError."""
    write(path, to_pem(key), mode=0o440, group=TOKEN_GROUP)


def _p256(path: Path) -> ec.EllipticCurvePrivateKey | None:
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError):
        return None
    return (
        key if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1) else None
    )
