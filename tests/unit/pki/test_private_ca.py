"""The CA of a cluster: what its certificates are for, and when they have to be replaced."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sysreg_cli.pki.private_ca import Pair, issue, make_authority, revoke

NOW = datetime(2026, 11, 27, tzinfo=UTC)
AUTHORITY = make_authority(NOW)
NAMES = ("192.0.2.1", "controller.example")


@pytest.mark.parametrize("names", [NAMES, ()], ids=["server", "client"])
def test_no_certificate_has_a_common_name(names: tuple[str, ...]) -> None:
    """etcd would take it for the user."""
    pair = issue(AUTHORITY, names, NOW)
    assert not pair.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    usages = pair.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert ExtendedKeyUsageOID.CLIENT_AUTH in usages
    assert (ExtendedKeyUsageOID.SERVER_AUTH in usages) == bool(names)
    assert pair.problem(AUTHORITY.certificate, names, NOW) == ""
    assert Pair.load(pair.key_pem, pair.pem).certificate == pair.certificate


def test_two_authorities_have_two_names() -> None:
    assert make_authority(NOW).certificate.subject != AUTHORITY.certificate.subject


@pytest.mark.parametrize(
    ("names", "authority", "later", "problem"),
    [
        (("192.0.2.2",), AUTHORITY, 0, "has other names"),
        ((), AUTHORITY, 0, "has other names"),
        (NAMES, make_authority(NOW), 0, "is not from this CA"),
        (NAMES, AUTHORITY, 3300, "ends at 2036-11-24"),
    ],
)
def test_a_certificate_that_has_to_be_replaced_says_why(
    names: tuple[str, ...], authority: Pair, later: int, problem: str
) -> None:
    pair = issue(AUTHORITY, NAMES, NOW)
    assert pair.problem(authority.certificate, names, NOW + timedelta(days=later)) == problem


def test_a_key_of_another_certificate_and_damage_are_refused() -> None:
    first, second = issue(AUTHORITY, NAMES, NOW), issue(AUTHORITY, (), NOW)
    with pytest.raises(ValueError, match="does not belong"):
        Pair.load(first.key_pem, second.pem)
    for key, pem in ((b"", first.pem), (first.key_pem, b""), (first.pem, first.key_pem)):
        with pytest.raises(ValueError, match="damaged"):
            Pair.load(key, pem)


def test_a_list_of_revoked_certificates_grows() -> None:
    first, second = issue(AUTHORITY, (), NOW).certificate, issue(AUTHORITY, (), NOW).certificate
    empty = revoke(AUTHORITY, None, (), NOW)
    one = revoke(AUTHORITY, empty, [first.serial_number], NOW)
    both = revoke(AUTHORITY, one, [second.serial_number, first.serial_number], NOW + timedelta(days=1))
    serials = [entry.serial_number for entry in x509.load_pem_x509_crl(both)]
    assert serials == [first.serial_number, second.serial_number]
    assert x509.load_pem_x509_crl(both).is_signature_valid(AUTHORITY.key.public_key())
    with pytest.raises(ValueError, match=r"."):
        revoke(AUTHORITY, b"garbage", (), NOW)
