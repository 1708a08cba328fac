"""Certificates on the wire. All text; dates are ISO 8601 in UTC, as StarlingX's clients print them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Mode(StrEnum):
    """What a certificate is for."""

    DOCKER_REGISTRY = "docker_registry"  # the registry's own certificate, with its key
    SSL_CA = "ssl_ca"  # a CA that the whole host trusts


@dataclass(frozen=True, slots=True)
class Certificate:
    """An installed certificate. ``signature`` is ``<mode>_<serial number, decimal>``.

    ``name`` is what certificate-show takes; ``warnings`` are those of the install.
    """

    uuid: str
    certtype: str
    signature: str
    start_date: str
    expiry_date: str
    subject: str
    name: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Certificates:
    """The response to a request for all certificates."""

    certificates: tuple[Certificate, ...]


@dataclass(frozen=True, slots=True)
class Installation:
    """The response to an install. ``error`` says why the certificate was refused; empty: it is live."""

    error: str
    certificates: tuple[Certificate, ...]
    success: str = ""
    body: str = ""
