"""The rules of docs/contracts.rst, "Certificate". Each one yields its reasons as sentences for the operator.

Beyond the contract's own list a chain is refused if Go's or OpenSSL's clients would refuse it although every
signature is right: name constraints, path length, extended key usage along the chain, key identifiers that
don't meet, critical extensions nobody understands. Better now than after the switch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from cryptography.exceptions import InvalidSignature

from sysreg_cli.pki import names
from sysreg_cli.pki.facts import PARSE_ERRORS, Facts


def validity(one: Facts, now: datetime) -> Iterator[str]:
    if now < one.not_before:
        yield f"is not valid before {one.not_before} (it is {now:%Y-%m-%d %H:%M:%S} UTC now)"
    if now > one.not_after:
        yield f"expired at {one.not_after}"


def authority(one: Facts) -> Iterator[str]:
    """What a CA needs so that clients accept what it signed."""
    if not one.is_ca:
        yield "is not a CA (basic constraints)"
    elif not one.may_sign_certificates:
        yield "may not sign certificates (key usage)"


def server(one: Facts, host_names: Sequence[str]) -> Iterator[str]:
    """What the first certificate of a chain needs to serve ``host_names`` over TLS."""
    if one.is_ca:
        # Self-signed ones too: whoever stole the server's key could sign any name for every client.
        hint = "; a self-signed one needs basicConstraints=CA:FALSE" if one.self_issued else ""
        yield f"is a CA; the server certificate comes first{hint}"
    if not one.may_sign_handshakes:
        # RFC 8446 4.4.2.2
        yield "may not be used for a TLS server (key usage lacks digitalSignature)"
    if not one.has_san:
        yield "has no subject alternative name; a common name alone counts for nothing"
    else:
        for host in host_names:
            if not names.covers(host, one.dns_names, one.addresses):
                kind = "IP address" if names.as_address(host) else "DNS name"
                yield f"its subject alternative name lacks the {kind} {host}"


def purpose(one: Facts) -> Iterator[str]:
    # Go and OpenSSL demand it of every certificate in the chain that has the extension at all.
    if not one.for_servers:
        yield "may not be used for a TLS server (extended key usage lacks serverAuth)"


def link(child: Facts, parent: Facts, below: int) -> Iterator[str]:
    """Whether ``parent`` issued ``child``; ``below`` counts the intermediates under ``parent``."""
    if child.fingerprint == parent.fingerprint:
        yield "stands twice"
        return
    if child.issuer_der != parent.subject_der:
        yield "is not issued by the certificate after it (wrong order, or one is missing)"
        return
    if not signed_by(child, parent):
        yield "is not signed by the key of the certificate after it"
    elif None not in (child.issuer_key_identifier, parent.key_identifier) and (
        child.issuer_key_identifier != parent.key_identifier
    ):
        yield "names another issuing key than that of the certificate after it (authority key identifier)"
    if parent.path_length is not None and below > parent.path_length:
        yield f"is too far below a CA that allows {parent.path_length} CAs under it (path length)"


def signed_by(child: Facts, parent: Facts) -> bool:
    """Whether the signature is right; one of a kind that is refused anyway is not looked at."""
    if not child.verifiable:
        return True
    try:
        child.certificate.verify_directly_issued_by(parent.certificate)
    except (InvalidSignature, *PARSE_ERRORS):
        return False
    return True


def claims_own_signature(one: Facts) -> bool:
    """Self-issued, and not a key roll-over (whose authority key identifier names the older key)."""
    identifiers = (one.issuer_key_identifier, one.key_identifier)
    return one.self_issued and (None in identifiers or identifiers[0] == identifiers[1])


def own_signature(one: Facts) -> Iterator[str]:
    if claims_own_signature(one) and not signed_by(one, one):
        yield "is self-signed, but not with its own key"


def constrained(leaf: Facts, parent: Facts) -> Iterator[str]:
    """Whether a CA's name constraints leave room for every name of the server certificate."""
    limits = parent.constraints
    for name in leaf.dns_names:
        allowed = limits.permitted_dns is None or any(
            names.dns_within(name, to) for to in limits.permitted_dns
        )
        if not allowed or any(names.dns_within(name, to) for to in limits.excluded_dns):
            yield f"forbids the DNS name {name} (name constraints)"
    for address in leaf.addresses:
        allowed = limits.permitted_networks is None or any(
            names.address_within(address, to) for to in limits.permitted_networks
        )
        if not allowed or any(names.address_within(address, to) for to in limits.excluded_networks):
            yield f"forbids the IP address {address} (name constraints)"


def expiry_warnings(one: Facts, now: datetime, days: int) -> Iterator[str]:
    if now <= one.not_after < now + timedelta(days=days):
        yield f"expires within {days} days, at {one.not_after}"
