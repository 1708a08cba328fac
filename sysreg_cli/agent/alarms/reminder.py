"""Logs a warning, at the start and once a day, when the certificate in use expires soon."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from sysreg_cli.agent.alarms import expiry
from sysreg_cli.settings import CertificateSettings

log = logging.getLogger(__name__)

_DAY_SECONDS = 86400


async def remind(settings: CertificateSettings) -> None:
    """Check the certificate every day, until cancelled."""
    while True:
        if warning := expiry_warning(settings, datetime.now(UTC)):
            log.warning("%s", warning)
        await asyncio.sleep(_DAY_SECONDS)


def expiry_warning(settings: CertificateSettings, now: datetime) -> str:
    """Return a warning if a certificate of the chain in use expires within ``min_days_warning`` days.

    Returns "" otherwise, and if the chain cannot be read: the probe and sysreg-deploy report that.
    """
    certificate = expiry.of_registry(settings)
    if certificate is None or now < certificate.expires - timedelta(days=settings.min_days_warning):
        return ""
    end = certificate.expires
    verb = "ended" if end <= now else "ends"
    return (
        f"the certificate in use {verb} at {end:%Y-%m-%d %H:%M} UTC: install another (system"
        " certificate-install -m docker_registry)"
    )
