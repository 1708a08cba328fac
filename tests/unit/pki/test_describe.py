"""How a certificate is shown, and the one that a new controller makes for itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import NameOID

from sysreg_cli.pki.describe import describe, with_unique_names
from sysreg_cli.pki.selfsigned import self_signed
from sysreg_cli.v1.certificates import Mode
from tests import certificates as make
from tests.unit.pki.conftest import NOW, accepted


def test_a_certificate_is_described_as_the_contract_has_it() -> None:
    issued = make.server(
        serial=1234567890123456789012345,
        start=datetime(2026, 1, 17, 1, 48, 21, tzinfo=UTC),
        end=datetime(2027, 1, 17, 1, 48, 21, tzinfo=UTC),
    )
    shown = describe(issued.certificate, Mode.DOCKER_REGISTRY)
    assert shown.signature == "docker_registry_1234567890123456789012345"
    assert shown.start_date == "2026-01-17 01:48:21+00:00"
    assert shown.expiry_date == "2027-01-17 01:48:21+00:00"
    assert shown.subject == "CN=server"
    assert shown.certtype == "docker_registry"


def test_the_uuid_is_that_of_the_certificate_and_its_mode() -> None:
    certificate, other = make.authority().certificate, make.authority().certificate
    assert describe(certificate, Mode.SSL_CA).uuid == describe(certificate, Mode.SSL_CA).uuid
    assert describe(certificate, Mode.SSL_CA).uuid != describe(other, Mode.SSL_CA).uuid
    assert describe(certificate, Mode.SSL_CA).uuid != describe(certificate, Mode.DOCKER_REGISTRY).uuid


def test_two_cas_with_one_serial_number_have_names_of_their_own() -> None:
    shown = [describe(make.authority(serial=serial).certificate, Mode.SSL_CA) for serial in (7, 7, 8)]
    first, second, other = with_unique_names(shown)
    assert first.name == f"ssl_ca_7_{shown[0].uuid[:8]}" != second.name
    assert first.signature == second.signature == "ssl_ca_7"
    assert other.name == "ssl_ca_8"
    assert with_unique_names([shown[0], shown[0]]) == (shown[0], shown[0]), "it is one certificate"


def test_a_subject_is_one_safe_line() -> None:
    subject = describe(make.issue("a\nb\x1b[0m\u202e").certificate, Mode.SSL_CA).subject
    assert subject.isprintable()


def test_the_first_certificate_of_a_controller_passes_its_own_check() -> None:
    hosts = ["registry.local", "registry.central", "198.51.100.10"]
    key, certificate = self_signed(hosts, now=NOW, days=365, addresses=["2001:db8::1"])
    chain = accepted(key + certificate, hosts)
    accepted(key + certificate, ["2001:db8::1"])
    assert chain.anchor.not_valid_after_utc == NOW + timedelta(days=365)
    assert not [warning for warning in chain.warnings if "self-signed" not in warning]
    subject = chain.certificates[0].subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert subject[0].value == "registry.local"
    assert isinstance(chain.certificates[0], x509.Certificate)
