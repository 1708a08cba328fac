"""The pair that signs tokens, the registry's trust in it, and the files of a rollover."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from sysreg_cli.deploy.machine import PUBLIC, Attributes
from sysreg_cli.deploy.resource import Change, Context, Resource, attributes_change
from sysreg_cli.errors import SettingsError
from sysreg_cli.pki.keys import to_pem
from sysreg_cli.pki.selfsigned import signing_certificate
from sysreg_cli.settings import Settings
from sysreg_cli.tokens.rollover_files import RolloverFiles
from sysreg_cli.tokens.signer import TokenSigner

#: The token server runs in this group; the agent, which is root, reads the key as well.
KEY_ATTRIBUTES = Attributes(0o440, group="sysreg-token")


@dataclass(frozen=True)
class SigningPair(Resource):
    """The token-signing key and its certificate. A good key is never replaced."""

    settings: Settings
    key_attributes: Attributes = KEY_ATTRIBUTES

    def _paths(self) -> tuple[Path, ...]:
        return self.settings.token_server.signing_key, self.settings.token_server.signing_certificate

    def compare(self, context: Context) -> Change | None:
        key_path, certificate_path = self._paths()
        if not key_path.exists():
            return Change(f"create a token-signing key in {key_path.parent}", self._create)
        try:
            TokenSigner.load(self.settings)
        except SettingsError as error:
            return Change(f"repair the token-signing pair: {'; '.join(error.problems)}", self._create)
        return attributes_change({key_path: self.key_attributes, certificate_path: PUBLIC})

    def _create(self, context: Context) -> None:
        """Make a certificate, and a key if there is no good one."""
        key_path, certificate_path = self._paths()
        for path in self._paths():
            context.record.make_directory(path.parent)
        context.record.take(key_path, certificate_path)
        key = _read_p256(key_path) or ec.generate_private_key(ec.SECP256R1())
        self.key_attributes.write(key_path, to_pem(key))
        PUBLIC.write(certificate_path, signing_certificate(key, now=datetime.now(UTC)))

    def remove(self, context: Context) -> str:
        paths = (*self._paths(), *RolloverFiles.of(self.settings).present)
        return "; ".join(line for path in paths if (line := context.record.put_back(path)))


def trusted_certificates(settings: Settings) -> bytes:
    """The registry's ``rootcertbundle``. In a rollover it has the next and the retired certificate, too."""
    files = RolloverFiles.of(settings)
    paths = (settings.token_server.signing_certificate, files.next_certificate, files.retired_certificate)
    return bundle(*(path.read_bytes() for path in paths if path.exists()))


def bundle(*pems: bytes, without: bytes = b"") -> bytes:
    """All certificates of ``pems`` except those of ``without``, each once, in order (PEM)."""
    unwanted = _certificates(without)
    kept: list[x509.Certificate] = []
    for certificate in (certificate for pem in pems for certificate in _certificates(pem)):
        if certificate not in unwanted and certificate not in kept:
            kept.append(certificate)
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in kept)


def _certificates(pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        return []  # SigningPair reports a damaged file, and repairs it before the bundle is made


def _read_p256(path: Path) -> ec.EllipticCurvePrivateKey | None:
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        return None
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    return None
