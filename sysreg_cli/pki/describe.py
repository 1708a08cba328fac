"""A certificate as certificate-install, certificate-list and certificate-show present it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import replace

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from sysreg_cli.pki.facts import CertificateProblem, quietly, read, subject_of
from sysreg_cli.text import printable
from sysreg_cli.v1.certificates import Certificate, Mode


@quietly()
def describe(certificate: x509.Certificate, mode: Mode, warnings: Iterable[str] = ()) -> Certificate:
    """Describe a certificate installed in ``mode`` (docs/contracts.rst, "Certificate").

    The UUID is the same for the same certificate and mode on every machine, and needs no store.
    """
    signature = f"{mode}_{certificate.serial_number}"
    fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
    return Certificate(
        uuid=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{mode}:{fingerprint}")),
        certtype=mode.value,
        signature=signature,
        start_date=str(certificate.not_valid_before_utc),
        expiry_date=str(certificate.not_valid_after_utc),
        subject=subject_of(certificate),
        name=mode.value if mode is Mode.DOCKER_REGISTRY else signature,
        warnings=tuple(warnings),
    )


def with_unique_names(certificates: Iterable[Certificate]) -> tuple[Certificate, ...]:
    """Give certificates that share a name the beginning of their uuid as well.

    CA certificates are named by their serial number, which is unique for each issuer only.
    """
    listed = tuple(certificates)
    sharing: dict[str, set[str]] = {}
    for certificate in listed:
        sharing.setdefault(certificate.name, set()).add(certificate.uuid)
    return tuple(
        replace(certificate, name=f"{certificate.name}_{certificate.uuid[:8]}")
        if len(sharing[certificate.name]) > 1
        else certificate
        for certificate in listed
    )


@quietly()
def alternative_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the DNS names and IP addresses of a certificate; none if it is damaged."""
    try:
        facts = read(certificate)
    except CertificateProblem:
        return ()
    return (*facts.dns_names, *map(str, facts.addresses))


def issuer_of(certificate: x509.Certificate) -> str:
    """Return the issuer on one line, as RFC 4514 writes it."""
    return printable(certificate.issuer.rfc4514_string(), 1000)
