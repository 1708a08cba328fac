"""The rules of docs/contracts.rst, "Certificate". Each rule yields its reasons as sentences for the operator.

A chain is also refused if clients in Go or with OpenSSL refuse it although every signature is right: because
of name constraints, path length, extended key usage along the chain, key identifiers that do not match, or
critical extensions that they do not understand. The operator learns it before the certificate is live.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from cryptography.exceptions import InvalidSignature

from sysreg_cli.pki import names
from sysreg_cli.pki.facts import PARSE_ERRORS, Facts


def validity(facts: Facts, now: datetime) -> Iterator[str]:
    if now < facts.not_before:
        yield f"is not valid before {facts.not_before} (it is {now:%Y-%m-%d %H:%M:%S} UTC now)"
    if now > facts.not_after:
        yield f"expired at {facts.not_after}"


def authority(facts: Facts) -> Iterator[str]:
    """Check what clients demand of a CA."""
    if not facts.is_ca:
        yield "is not a CA (basic constraints)"
    elif not facts.may_sign_certificates:
        yield "may not sign certificates (key usage)"


def server(facts: Facts, host_names: Sequence[str]) -> Iterator[str]:
    """Check what the first certificate of a chain needs to serve ``host_names`` over TLS."""
    if facts.is_ca:
        # Also if it is self-signed: a thief of its key could sign any name, and every client would accept it.
        hint = "; a self-signed one needs basicConstraints=CA:FALSE" if facts.self_issued else ""
        yield f"is a CA; the server certificate comes first{hint}"
    if not facts.may_sign_handshakes:
        # RFC 8446 4.4.2.2
        yield "may not be used for a TLS server (key usage lacks digitalSignature)"
    if not facts.has_san:
        yield "has no subject alternative name; a common name alone counts for nothing"
    else:
        for host in host_names:
            if not names.covers(host, facts.dns_names, facts.addresses):
                kind = "IP address" if names.as_address(host) else "DNS name"
                yield f"its subject alternative name lacks the {kind} {host}"


def purpose(facts: Facts) -> Iterator[str]:
    # Go and OpenSSL demand it of every certificate in the chain that has the extension.
    if not facts.for_servers:
        yield "may not be used for a TLS server (extended key usage lacks serverAuth)"


def link(child: Facts, parent: Facts, below: int) -> Iterator[str]:
    """Check that ``parent`` issued ``child``. ``below`` is the number of intermediates under ``parent``."""
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
    """Whether the signature is right. An algorithm that is refused anyway is not checked."""
    if child.signature_weaknesses:
        return True
    try:
        child.certificate.verify_directly_issued_by(parent.certificate)
    except (InvalidSignature, *PARSE_ERRORS):
        return False
    return True


def claims_own_signature(facts: Facts) -> bool:
    """Whether subject and issuer are equal, and so are both key identifiers, if there are two.

    In a key roll-over the authority key identifier names the old key.
    """
    identifiers = (facts.issuer_key_identifier, facts.key_identifier)
    return facts.self_issued and (None in identifiers or identifiers[0] == identifiers[1])


def signature(facts: Facts, *, is_anchor: bool) -> Iterator[str]:
    """Check the algorithm of the signature. Nobody checks that of a self-signed trust anchor."""
    if not (is_anchor and claims_own_signature(facts)):
        yield from facts.signature_weaknesses


def own_signature(facts: Facts) -> Iterator[str]:
    if claims_own_signature(facts) and not signed_by(facts, facts):
        yield "is self-signed, but not with its own key"


def constrained(leaf: Facts, parent: Facts) -> Iterator[str]:
    """Check that a CA's name constraints permit every name of the server certificate."""
    for kind, values in (("DNS name", leaf.dns_names), ("IP address", leaf.addresses)):
        for name in values:
            if parent.constraints is not None and not names.permits(parent.constraints, name):
                yield f"forbids the {kind} {name} (name constraints)"


def expiry_warnings(facts: Facts, now: datetime, days: int) -> Iterator[str]:
    if now <= facts.not_after < now + timedelta(days=days):
        yield f"expires within {days} days, at {facts.not_after}"
