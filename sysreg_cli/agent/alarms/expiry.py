"""The certificates that are installed, and when each of them expires."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sysreg_cli.errors import CertificateRefused
from sysreg_cli.host.generations import Generations
from sysreg_cli.host.system_bundle import SystemBundle
from sysreg_cli.pki.describe import describe
from sysreg_cli.settings import Settings
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
    return (*_servers(settings), *_authorities(settings))


def _servers(settings: Settings) -> Iterator[Expiry]:
    generations = Generations(settings.certificate.directory)
    try:
        current = generations.current()
        chain = generations.certificates(current) if current else ()
    except (OSError, CertificateRefused):
        return
    if chain:
        shown = describe(chain[0], Mode.DOCKER_REGISTRY)
        end = min(certificate.not_valid_after_utc for certificate in chain)
        yield Expiry(shown.name, Mode.DOCKER_REGISTRY, shown.uuid, end)


def _authorities(settings: Settings) -> Iterator[Expiry]:
    try:
        certificates = SystemBundle(settings.paths).installed()
    except (OSError, CertificateRefused):
        return
    for certificate in certificates:
        shown = describe(certificate, Mode.SSL_CA)
        yield Expiry(shown.name, Mode.SSL_CA, shown.uuid, certificate.not_valid_after_utc)
