"""A line in the journal, at the start and once a day, when the certificate in use soon ends."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from sysreg_cli.errors import CertificateRefused
from sysreg_cli.host.generations import Generations
from sysreg_cli.pki.check import read_certificates
from sysreg_cli.settings import CertificateSettings

log = logging.getLogger(__name__)

_DAY_SECONDS = 86400


async def remind(settings: CertificateSettings) -> None:
    """Look every day, until cancelled."""
    while True:
        if warning := expiry_warning(settings, datetime.now(UTC)):
            log.warning("%s", warning)
        await asyncio.sleep(_DAY_SECONDS)


def expiry_warning(settings: CertificateSettings, now: datetime) -> str:
    """What to tell about the chain in use within ``min_days_warning`` days of its end; empty before that."""
    generations = Generations(settings.directory)
    try:
        name = generations.current()
        chain = read_certificates(generations.chain(name)) if name else []
    except (OSError, CertificateRefused):
        return ""  # others say more about that
    if not chain:
        return ""
    end = min(one.not_valid_after_utc for one in chain)
    if now < end - timedelta(days=settings.min_days_warning):
        return ""
    verb = "ended" if end <= now else "ends"
    return (
        f"the certificate in use {verb} at {end:%Y-%m-%d %H:%M} UTC: install another (system"
        " certificate-install -m docker_registry), or have sysreg-deploy renew a self-signed one"
    )
