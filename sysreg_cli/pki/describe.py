"""A certificate as users see it: the rows of certificate-install, certificate-list and certificate-show."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from sysreg_cli.pki.facts import quietly, subject_of


@dataclass(frozen=True, slots=True)
class Description:
    """What a user sees of an installed certificate (docs/contracts.rst, "Certificate").

    Every field is text. Dates are UTC.
    """

    uuid: str
    certtype: str
    signature: str
    start_date: str
    expiry_date: str
    subject: str


@quietly
def describe(certificate: x509.Certificate, mode: str) -> Description:
    """Describe a certificate installed in ``mode`` (``docker_registry`` or ``ssl_ca``).

    The UUID is the same for the same certificate and mode on every machine, and needs no store.
    """
    fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
    return Description(
        uuid=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{mode}:{fingerprint}")),
        certtype=mode,
        signature=f"{mode}_{certificate.serial_number}",
        start_date=str(certificate.not_valid_before_utc),
        expiry_date=str(certificate.not_valid_after_utc),
        subject=subject_of(certificate),
    )
