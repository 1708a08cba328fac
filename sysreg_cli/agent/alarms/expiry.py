"""The certificates that are installed, and when each of them expires."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sysreg_cli.errors import CertificateRefused
from sysreg_cli.host.generations import Generations
from sysreg_cli.host.system_bundle import SystemBundle
from sysreg_cli.pki.describe import describe
from sysreg_cli.settings import CertificateSettings, Settings
from sysreg_cli.v1.certificates import Mode


@dataclass(frozen=True, slots=True)
class Expiry:
    """When a certificate expires: for the registry's own, when the first one of its chain does."""

    name: str
    mode: Mode
    uuid: str
    expires: datetime


def installed(settings: Settings) -> tuple[Expiry, ...]:
    """Return all installed certificates. What cannot be read is left out: sysreg-deploy reports it."""
    registry = of_registry(settings.certificate)
    return (*((registry,) if registry else ()), *_authorities(settings))


def of_registry(settings: CertificateSettings) -> Expiry | None:
    """Return the registry's certificate; None if there is none, or it cannot be read."""
    generations = Generations(settings.directory)
    try:
        current = generations.current()
        chain = generations.certificates(current) if current else ()
    except (OSError, CertificateRefused):
        return None
    if not chain:
        return None
    shown = describe(chain[0], Mode.DOCKER_REGISTRY)
    end = min(certificate.not_valid_after_utc for certificate in chain)
    return Expiry(shown.name, Mode.DOCKER_REGISTRY, shown.uuid, end)


def _authorities(settings: Settings) -> Iterator[Expiry]:
    try:
        certificates = SystemBundle(settings.paths).installed()
    except (OSError, CertificateRefused):
        return
    for certificate in certificates:
        shown = describe(certificate, Mode.SSL_CA)
        yield Expiry(shown.name, Mode.SSL_CA, shown.uuid, certificate.not_valid_after_utc)
