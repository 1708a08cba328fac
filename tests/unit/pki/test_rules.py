"""Order, dates, key usage and more: accepted just inside, refused just outside.

The rules are in docs/contracts.rst, "Certificate".
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import cryptography_vectors
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests import certificates as make
from tests.unit.pki.conftest import NOW, accepted, only, refused

SECOND = timedelta(seconds=1)
LATER = NOW + timedelta(hours=1)  # certificates that openssl makes are valid from when it makes them


# key and certificate


def test_the_key_must_be_that_of_the_first_certificate(root: make.Issued) -> None:
    server, other = make.server(root), make.server(root)
    accepted(make.bundle(server, root))
    only(refused(make.bundle(server, root, key=other.key_pem)), "does not match certificate 1 (server)")


def test_a_key_of_another_kind_does_not_match(root: make.Issued) -> None:
    server = make.server(root)
    only(refused(make.bundle(server, root, key=make.key_pem(make.rsa_key()))), "does not match")


def test_a_chain_given_root_first_is_told_the_order(root: make.Issued) -> None:
    server = make.server(root)
    problems = refused(server.key_pem + root.pem + server.pem)
    assert any("belongs to certificate 2, which has to come first" in problem for problem in problems)


# CA or not


def test_a_ca_does_not_come_first(root: make.Issued) -> None:
    leaf: dict[str, Any] = {
        "names": [make.HOST],
        "key_usage": make.usage("digital_signature", "key_cert_sign"),
    }
    problems = refused(make.bundle(make.authority("CA", root, **leaf), root))
    only(problems, "certificate 1 (CA): is a CA; the server certificate comes first")
    only(
        refused(make.bundle(make.authority("Own", **leaf))),
        "a self-signed one needs basicConstraints=CA:FALSE",
    )


def test_a_self_signed_server_certificate_is_accepted_with_a_warning() -> None:
    chain = accepted(make.bundle(make.server()))
    assert [warning for warning in chain.warnings if "is self-signed" in warning]
    assert chain.anchor == chain.certificates[0]


def test_an_issuer_must_be_a_ca_that_may_sign(root: make.Issued) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, ""),
        ({"ca": False, "key_usage": make.usage("key_cert_sign")}, "is not a CA"),
        ({"without": [x509.BasicConstraints]}, "is not a CA"),
        ({"key_usage": make.usage("crl_sign")}, "may not sign certificates"),
        ({"without": [x509.KeyUsage]}, ""),
    ]
    for changes, reason in cases:
        authority = make.issue("Sub", root, **{"ca": True, **changes})
        data = make.bundle(make.server(authority), authority, root)
        if reason:
            only(refused(data), f"certificate 2 (Sub): {reason}")
        else:
            accepted(data)


# order and signatures


def test_one_two_and_three_intermediates_are_accepted(root: make.Issued) -> None:
    first = make.authority("One", root)
    second = make.authority("Two", first)
    third = make.authority("Three", second)
    accepted(make.bundle(make.server(first), first, root))
    accepted(make.bundle(make.server(second), second, first))
    accepted(make.bundle(make.server(third), third, second, first, root))


def test_a_wrong_order_is_refused(root: make.Issued) -> None:
    first = make.authority("One", root)
    second = make.authority("Two", first)
    problems = refused(make.bundle(make.server(second), first, second, root))
    assert any("certificate 1 (server): is not issued by the certificate after it" in p for p in problems)
    assert any("certificate 2 (One): is not issued by the certificate after it" in p for p in problems)


def test_a_missing_intermediate_is_refused(root: make.Issued, intermediate: make.Issued) -> None:
    only(refused(make.bundle(make.server(intermediate), root)), "wrong order, or one is missing")


def test_a_ca_of_the_same_name_but_another_key_is_refused(root: make.Issued) -> None:
    impostor = make.authority("Root")
    only(
        refused(make.bundle(make.server(root), impostor)),
        "is not signed by the key of the certificate after it",
    )


def test_identical_copies_count_once(root: make.Issued, intermediate: make.Issued) -> None:
    server = make.server(intermediate)
    chain = make.bundle(server, intermediate, root)
    for copies in (
        (server, intermediate, intermediate, root),
        (server, server, intermediate, root),
        (server, intermediate, root, root),
        (server, intermediate, root, intermediate),
    ):
        assert accepted(make.bundle(*copies)).chain_pem == accepted(chain).chain_pem


def test_a_lone_certificate_of_a_ca_is_accepted_with_a_warning(intermediate: make.Issued) -> None:
    warnings = accepted(make.bundle(make.server(intermediate))).warnings
    only(warnings, "is issued by a CA that is not in the file")
    assert accepted(make.bundle(make.server(intermediate), intermediate)).warnings == ()


def test_a_foreign_certificate_at_the_end_is_refused(root: make.Issued) -> None:
    stray = make.authority("Stray")
    only(refused(make.bundle(make.server(root), root, stray)), "certificate 2 (Root): is not issued by")


def test_a_false_self_signature_is_refused(root: make.Issued) -> None:
    liar = make.issue(
        "Root", root, names=[make.HOST], without=[x509.AuthorityKeyIdentifier]
    )  # of the root's name, but not of its key
    only(refused(make.bundle(liar)), "is self-signed, but not with its own key")


def test_key_identifiers_must_meet(root: make.Issued) -> None:
    stranger = x509.AuthorityKeyIdentifier(b"x" * 20, None, None)
    only(
        refused(make.bundle(make.server(root, extra=[(stranger, False)]), root)), "names another issuing key"
    )
    accepted(make.bundle(make.server(root, without=[x509.AuthorityKeyIdentifier]), root))


def test_the_path_length_counts_the_cas_below(root: make.Issued) -> None:
    for allowed, good in ((0, False), (1, True), (None, True)):
        top = make.authority("Top", path_length=allowed)
        sub = make.authority("Sub", top)
        data = make.bundle(make.server(sub), sub, top)
        if good:
            accepted(data)
        else:
            only(refused(data), "path length")
    strict = make.authority("Strict", path_length=0)
    accepted(make.bundle(make.server(strict), strict))


# dates


@pytest.mark.parametrize("place", ["server", "intermediate", "root"])
def test_every_certificate_must_be_valid_now(place: str) -> None:
    def chain(**dates: Any) -> bytes:
        at = {name: dates if name == place else {} for name in ("server", "intermediate", "root")}
        root = make.authority("root", **at["root"])
        sub = make.authority("intermediate", root, **at["intermediate"])
        return make.bundle(make.server(sub, **at["server"]), sub, root)

    accepted(chain(end=NOW))
    only(refused(chain(end=NOW - SECOND)), f"({place}): expired at ")
    accepted(chain(start=NOW))
    only(refused(chain(start=NOW + SECOND)), f"({place}): is not valid before ")


def test_an_expiry_within_30_days_is_warned_of(root: make.Issued) -> None:
    late = accepted(make.bundle(make.server(root, end=NOW + timedelta(days=30)), root))
    assert late.warnings == ()
    soon = accepted(make.bundle(make.server(root, end=NOW + timedelta(days=30) - SECOND), root))
    assert len(soon.warnings) == 1
    assert "(server): expires within 30 days, at 20" in soon.warnings[0]


# key usage


@pytest.mark.parametrize(
    ("usages", "good"),
    [
        (("digital_signature",), True),
        (("digital_signature", "key_encipherment"), True),
        (("key_encipherment",), False),
        (("key_agreement",), False),
        (("content_commitment",), False),
    ],
)
def test_key_usage_must_allow_a_tls_server(usages: tuple[str, ...], good: bool, root: make.Issued) -> None:
    data = make.bundle(make.server(root, key_usage=make.usage(*usages)), root)
    if good:
        accepted(data)
    else:
        only(refused(data), "key usage lacks digitalSignature")


def test_a_certificate_without_any_key_usage_is_accepted(root: make.Issued) -> None:
    accepted(make.bundle(make.server(root, without=[x509.KeyUsage, x509.ExtendedKeyUsage]), root))


@pytest.mark.parametrize(
    ("extended", "good"),
    [
        ([ExtendedKeyUsageOID.SERVER_AUTH], True),
        ([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH], True),
        ([ExtendedKeyUsageOID.CLIENT_AUTH], False),
        ([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE], False),  # OpenSSL does not take it for serverAuth
    ],
)
def test_extended_key_usage_must_name_server_auth_all_along(
    extended: list[x509.ObjectIdentifier], good: bool, root: make.Issued
) -> None:
    authority = make.authority("Sub", root, extended=extended)
    for data in (
        make.bundle(make.server(root, extended=extended), root),
        make.bundle(make.server(authority), authority, root),
    ):
        if good:
            accepted(data)
        else:
            only(refused(data), "extended key usage lacks serverAuth")


# what else clients stumble over


def test_version_1_is_refused_although_it_has_extensions() -> None:
    """Found by the fuzzer: Go reads no extension of such a certificate, and so no name of it."""
    server = make.server()
    raw = server.certificate.tbs_certificate_bytes
    version = bytes.fromhex("a003020102")
    assert raw.startswith(version, 4)
    certificate = make.signed(raw[4 + len(version) :], server.key)
    assert certificate.version is x509.Version.v1
    only(refused(make.bundle(make.Issued(certificate, server.key))), "of X.509 version 1")


def test_a_negative_serial_number_is_refused() -> None:
    vectors = Path(cryptography_vectors.__file__).parent
    pem = (vectors / "x509/custom/negative_serial.pem").read_bytes()
    assert any("serial number is negative" in problem for problem in refused(pem))


def test_a_critical_extension_that_nobody_knows_is_refused(root: make.Issued) -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    accepted(make.bundle(make.server(root, extra=[(unknown, False)]), root))
    only(refused(make.bundle(make.server(root, extra=[(unknown, True)]), root)), "critical extension 1.2.3.4")
    authority = make.authority(extra=[(unknown, True)])
    only(refused(make.bundle(make.server(authority), authority)), "certificate 2 (Test Root): clients do not")


def test_every_reason_is_given_at_once() -> None:
    bad_root = make.authority("Root", key=make.rsa_key(1024), end=NOW - SECOND)
    server = make.issue(
        "bad", bad_root, names=["other"], key_usage=make.usage("key_agreement"), start=NOW + timedelta(days=1)
    )
    problems = refused(make.bundle(server, bad_root, key=make.key_pem(make.ec_key())))
    for reason in (
        "the private key does not match",
        "(bad): is not valid before",
        "(bad): may not be used for a TLS server",
        "(bad): its subject alternative name lacks the DNS name registry.local",
        "(Root): expired at",
        "(Root): its key is RSA of 1024 bits",
    ):
        assert [problem for problem in problems if reason in problem], (reason, problems)
    assert len(problems) == 6


def test_names_from_a_certificate_cannot_forge_a_line() -> None:
    forged = make.issue("evil\nAll is well\x1b[2J", names=["other"])
    for problem in refused(make.bundle(forged)):
        assert problem.isprintable()
