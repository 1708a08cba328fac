"""The desired state that this host acts on, checked and ready for use, and its record on the disk.

The record outlives a restart. With it a host keeps its trust while the store cannot be reached, and notices
that a store was restored from an older state.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from sysreg_cli.addresses import parse_port
from sysreg_cli.cluster.records import Anchor, D, DesiredCertificate, decode, encode
from sysreg_cli.errors import CertificateRefused, ProtocolError
from sysreg_cli.host import files
from sysreg_cli.pki.check import read_certificates
from sysreg_cli.settings import Settings
from sysreg_cli.settings.schema import host_name

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Acting:
    """A desired state, with this host's settings for that registry, and its anchors as certificates.

    ``wanted`` are trusted at least, ``kept`` are those that stay when the host has settled.
    """

    desired: DesiredCertificate
    settings: Settings
    wanted: tuple[x509.Certificate, ...]
    kept: tuple[x509.Certificate, ...]


def act_on(desired: DesiredCertificate, settings: Settings) -> Acting:
    """Check ``desired``. Raises ProtocolError for one that no controller publishes.

    Host names become names of directories, so a wrong one must not get further than here.
    """
    try:
        names = tuple(host_name(name) for name in desired.host_names)
        port = parse_port(str(desired.port))
        kept = tuple(map(_certificate, desired.anchors))
        wanted = tuple(map(_certificate, desired.wanted))
    except (ValueError, CertificateRefused) as error:
        raise ProtocolError(f"the desired certificate makes no sense: {error}") from None
    if not names or not kept:
        raise ProtocolError("the desired certificate makes no sense: no host name, or no anchor")
    registry = dataclasses.replace(settings.registry, host_names=names, port=port, url="")
    return Acting(desired, dataclasses.replace(settings, registry=registry), wanted, kept)


def certificates_of(anchors: Iterable[Anchor]) -> tuple[x509.Certificate, ...]:
    """Check CA certificates. Raises ProtocolError for those that no controller publishes."""
    try:
        return tuple(map(_certificate, anchors))
    except (ValueError, CertificateRefused) as error:
        raise ProtocolError(f"the desired CA certificates make no sense: {error}") from None


def _certificate(anchor: Anchor) -> x509.Certificate:
    """Raises ValueError, CertificateRefused."""
    certificates = read_certificates(anchor.pem.encode())
    if [fingerprint(one) for one in certificates] != [anchor.sha256]:
        raise ValueError(f"the fingerprint of an anchor is not {anchor.sha256[:16]}")
    return certificates[0]


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 fingerprint in hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


class AcceptedRecord(Generic[D]):
    """The desired state of the type ``kind`` that this host has accepted last, in a file."""

    def __init__(self, path: Path, kind: type[D]) -> None:
        self._path = path
        self._kind = kind

    def load(self) -> D | None:
        """Return it; None if there is none. One that is damaged counts as none."""
        try:
            return decode(self._kind, self._path.read_bytes(), str(self._path))
        except FileNotFoundError:
            return None
        except (OSError, ProtocolError) as error:
            _log.warning("what this host has accepted is not known: %s", error)
            return None

    def save(self, desired: D) -> None:
        """Raises OSError."""
        files.write(self._path, encode(desired), mode=0o644)
