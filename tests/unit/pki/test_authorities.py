"""Mode ssl_ca: CA certificates, several in one file, no key."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sysreg_cli.errors import CertificateRefused
from sysreg_cli.pki.check import Authority, check_authorities
from tests import certificates as make
from tests.unit.pki.conftest import NOW, only


def accepted(data: bytes) -> tuple[Authority, ...]:
    return check_authorities(data, now=NOW).accepted


def refused(data: bytes) -> tuple[str, ...]:
    with pytest.raises(CertificateRefused) as caught:
        accepted(data)
    return caught.value.problems


def test_several_authorities_in_any_order_and_each_once(root: make.Issued, intermediate: make.Issued) -> None:
    other = make.authority("Other", key=make.rsa_key())
    authorities = accepted(other.pem + root.pem + intermediate.pem + root.pem + other.pem)
    assert [authority.certificate for authority in authorities] == [
        other.certificate,
        root.certificate,
        intermediate.certificate,
    ]
    assert authorities[0].pem == other.pem


def test_a_key_is_refused(root: make.Issued) -> None:
    only(refused(root.pem + root.key_pem), "there is a private key")


def test_nothing_is_refused() -> None:
    only(refused(b""), "there is no certificate")


def test_a_server_certificate_is_no_authority(root: make.Issued) -> None:
    accepted(root.pem)
    only(refused(make.server(root).pem), "certificate 1 (server): is not a CA")


def test_the_good_ones_of_a_bundle_are_accepted_and_the_others_named(root: make.Issued) -> None:
    old = make.authority("Old", end=NOW - timedelta(seconds=1))
    damaged = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    good = make.authority("Good")
    checked = check_authorities(root.pem + old.pem + damaged + make.server(root).pem + good.pem, now=NOW)
    assert [one.certificate for one in checked.accepted] == [root.certificate, good.certificate]
    assert [reason.partition(":")[0] for reason in checked.refused] == [
        "certificate 3",
        "certificate 2 (Old)",
        "certificate 4 (server)",
    ]


def test_a_bundle_whose_armour_is_damaged_is_refused_as_a_whole(root: make.Issued) -> None:
    """Nobody can tell what else it should hold."""
    only(refused(root.pem + make.authority("Cut").pem[:-40]), "cut short")


def test_up_to_500_certificates_are_accepted() -> None:
    key = make.ec_key()
    pems = [make.authority(f"CA {number}", key=key).pem for number in range(501)]
    assert len(accepted(b"".join(pems[:500]))) == 500
    only(refused(b"".join(pems)), "there are 501 certificates; 500 are accepted")


def test_an_authority_that_may_not_sign_is_refused() -> None:
    only(refused(make.authority(key_usage=make.usage("crl_sign")).pem), "may not sign certificates")


def test_authorities_must_be_valid_now() -> None:
    second = timedelta(seconds=1)
    accepted(make.authority(end=NOW).pem)
    only(refused(make.authority(end=NOW - second).pem), "expired at")
    accepted(make.authority(start=NOW).pem)
    only(refused(make.authority(start=NOW + second).pem), "is not valid before")


def test_one_about_to_expire_is_warned_of() -> None:
    assert accepted(make.authority(end=NOW + timedelta(days=29)).pem)[0].warnings
    assert not accepted(make.authority(end=NOW + timedelta(days=31)).pem)[0].warnings


def test_weak_authorities_are_refused() -> None:
    only(refused(make.authority(key=make.rsa_key(1024)).pem), "RSA of 1024 bits")


def test_every_reason_is_given_at_once(root: make.Issued) -> None:
    old = make.authority("Old", key=make.rsa_key(1024), end=NOW - timedelta(seconds=1))
    assert len(refused(old.pem + make.server(root).pem + root.key_pem)) == 4


def test_the_size_limit_is_1_mib(root: make.Issued) -> None:
    size = 1024 * 1024
    accepted(b"#" * (size - 1 - len(root.pem)) + b"\n" + root.pem)
    only(refused(b"#" * (size - len(root.pem)) + b"\n" + root.pem), "larger than 1024 KiB")


def test_a_file_of_nothing_but_damage_is_refused_with_a_limited_number_of_reasons() -> None:
    reasons = refused(b"-----END CERTIFICATE-----\n" * 2000)
    assert len(reasons) == 1001
    assert reasons[-1] == "and 1001 further reasons"
