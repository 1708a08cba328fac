"""Host names and name constraints: accepted just inside, refused just outside.

The rules are in docs/contracts.rst, "Certificate".
"""

from __future__ import annotations

import ipaddress
from datetime import timedelta

import pytest
from cryptography import x509

from tests import certificates as make
from tests.unit.pki.conftest import NOW, accepted, only, refused

SECOND = timedelta(seconds=1)
LATER = NOW + timedelta(hours=1)  # certificates that openssl makes are valid from when it makes them


def test_every_configured_host_name_must_be_in_the_san(root: make.Issued) -> None:
    two = [make.HOST, "registry.central"]
    accepted(make.bundle(make.server(root, names=two), root), two)
    only(refused(make.bundle(make.server(root), root), two), "lacks the DNS name registry.central")
    problems = refused(make.bundle(make.server(root, names=["other.local"]), root), two)
    assert len(problems) == 2


def test_a_common_name_alone_counts_for_nothing(root: make.Issued) -> None:
    nameless = make.issue(make.HOST, root)
    only(refused(make.bundle(nameless, root)), "a common name alone counts for nothing")


@pytest.mark.parametrize(
    ("host", "names", "good"),
    [
        ("registry.local", ["REGISTRY.Local"], True),
        ("registry.local", ["*.local"], False),  # OpenSSL wants two labels after the star
        ("registry.example.org", ["*.example.org"], True),
        ("a.registry.example.org", ["*.example.org"], False),
        ("example.org", ["*.example.org"], False),
        ("registry.example.org", ["reg*.example.org"], False),
        ("registry.example.org", ["*"], False),
        ("registry.local", ["registry.local."], False),
        ("registry.local", ["xregistry.local", "registry.localx"], False),
        ("198.51.100.10", ["198.51.100.10"], True),
        ("198.51.100.10", ["198.51.100.11", "registry.local"], False),
        ("registry.local", ["198.51.100.10", "registry.local"], True),
    ],
)
def test_names_match_as_go_and_openssl_both_have_it(
    host: str, names: list[str], good: bool, root: make.Issued
) -> None:
    data = make.bundle(make.server(root, names=names), root)
    if good:
        accepted(data, [host])
    else:
        only(refused(data, [host]), f"lacks the {'IP address' if host[0].isdigit() else 'DNS name'} {host}")


def test_an_address_written_as_a_dns_name_is_no_address(root: make.Issued) -> None:
    san = x509.SubjectAlternativeName([x509.DNSName("198.51.100.10")])
    only(refused(make.bundle(make.server(root, extra=[(san, False)]), root), ["198.51.100.10"]), "IP address")


def _constraint(permitted: list[str] | None, excluded: list[str] | None) -> tuple[x509.NameConstraints, bool]:
    def read(text: str) -> x509.GeneralName:
        return x509.IPAddress(ipaddress.ip_network(text)) if text[0].isdigit() else x509.DNSName(text)

    return (
        x509.NameConstraints(
            [read(text) for text in permitted] if permitted else None,
            [read(text) for text in excluded] if excluded else None,
        ),
        True,
    )


@pytest.mark.parametrize(
    ("permitted", "excluded", "names", "good"),
    [
        (["local"], None, ["registry.local"], True),
        (["registry.local"], None, ["registry.local"], True),
        (["example.org"], None, ["registry.local"], False),
        (["gistry.local"], None, ["registry.local"], False),
        (None, ["local"], ["registry.local"], False),
        (None, ["example.org"], ["registry.local"], True),
        (["198.51.100.0/24"], None, ["registry.local", "198.51.100.10"], True),
        (["198.51.100.0/28"], None, ["registry.local", "198.51.100.16"], False),
        (None, ["198.51.100.0/24"], ["registry.local", "198.51.100.10"], False),
        (["local"], None, ["registry.local", "198.51.100.10"], True),
        ([".local"], None, ["registry.local"], True),
        (["local", ".foo.example"], None, ["registry.local", "*.foo.example"], True),
        (None, [".foo.example"], ["registry.local", "*.foo.example"], False),
    ],
)
def test_name_constraints_of_a_ca_leave_room_or_not(
    permitted: list[str] | None, excluded: list[str] | None, names: list[str], good: bool
) -> None:
    authority = make.authority("Narrow", extra=[_constraint(permitted, excluded)])
    data = make.bundle(make.server(authority, names=names), authority)
    if good:
        accepted(data)
    else:
        only(refused(data), "certificate 2 (Narrow): forbids the ")


def test_name_constraints_that_go_does_not_know_are_refused_when_critical() -> None:
    directory = x509.NameConstraints([x509.DirectoryName(make.name("x"))], None)
    for critical in (True, False):
        authority = make.authority(extra=[(directory, critical)])
        data = make.bundle(make.server(authority), authority)
        if critical:
            only(refused(data), "name constraints are of a kind")
        else:
            accepted(data)


def test_a_name_that_stands_twice_is_one_name() -> None:
    """Found by the fuzzer: each reason about it came twice."""
    narrow = make.authority("Narrow", extra=[_constraint(["local"], None)])
    server = make.server(narrow, names=[make.HOST, "elsewhere", "elsewhere", make.HOST])
    only(refused(make.bundle(server, narrow)), "forbids the DNS name elsewhere")
    accepted(make.bundle(make.server(names=[make.HOST, make.HOST])))


def test_a_san_cannot_forge_a_line_either() -> None:
    """Found by the fuzzer: a name that the CA's constraints forbid was quoted as it was."""
    narrow = make.authority("Narrow", extra=[_constraint(["local"], None)])
    server = make.server(narrow, names=[make.HOST, "evil\nAll is well\x1b[2J"])
    only(refused(make.bundle(server, narrow)), "forbids the DNS name evil\\nAll is well\\x1b[2J")
