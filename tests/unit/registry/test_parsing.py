"""Challenges, pages and manifests: the pure parts of the registry's client."""

from __future__ import annotations

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysreg_cli.errors import ProtocolError
from sysreg_cli.registry.challenge import Challenge, parse_bearer
from sysreg_cli.registry.manifests import OCI_INDEX, Manifest, throw_away
from sysreg_cli.registry.pages import next_page

_REALM = "https://registry.local:9002/token/"


@pytest.mark.parametrize(
    ("header", "challenge"),
    [
        (f'Bearer realm="{_REALM}",service="registry.local:9001"', Challenge(_REALM, "registry.local:9001")),
        (
            f'Bearer realm="{_REALM}", service="s", scope="repository:a:pull,push", '
            'error="insufficient_scope"',
            Challenge(_REALM, "s", "insufficient_scope"),
        ),
        (f'bearer REALM="{_REALM}" , service=s', Challenge(_REALM, "s")),
        (f'Basic realm="a, b", Bearer realm="{_REALM}"', Challenge(_REALM)),
        (r'Bearer realm="https://a/\"b\\"', Challenge('https://a/"b\\')),
        ('Negotiate, Basic realm="x"', None),
        ("Bearer", None),
        ("Bearer service=s", None),
        ("", None),
    ],
)
def test_a_bearer_challenge_is_found_among_others(header: str, challenge: Challenge | None) -> None:
    assert parse_bearer([header]) == challenge


def test_challenges_may_come_in_several_headers() -> None:
    assert parse_bearer(['Basic realm="x"', f'Bearer realm="{_REALM}"']) == Challenge(_REALM)


@given(st.lists(st.text(alphabet=string.printable, max_size=80), max_size=3))
def test_no_header_whatever_breaks_the_parser(headers: list[str]) -> None:
    parse_bearer(headers)


_HERE = "https://registry.local:9001/v2/_catalog?n=1000"


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ('</v2/_catalog?last=b&n=1000>; rel="next"', "/v2/_catalog?last=b&n=1000"),
        ("<?last=b>; rel=next", "/v2/_catalog?last=b"),
        ('<https://registry.local:9001/v2/_catalog?last=b>; rel="next"', "/v2/_catalog?last=b"),
        ('<https://REGISTRY.local:9001/v2/_catalog?last=b>; REL="next"', "/v2/_catalog?last=b"),
        ('</v2/>; rel="first", </v2/_catalog?last=b>; title="x"; rel="next"', "/v2/_catalog?last=b"),
        ('</v2/_catalog?last=a>; rel="prev"', ""),
        ("nonsense", ""),
    ],
)
def test_the_next_page_is_what_the_link_says(link: str, target: str) -> None:
    assert next_page(_HERE, link) == target


@pytest.mark.parametrize(
    "target",
    [
        "https://elsewhere.example:9001/v2/_catalog?last=b",
        "//elsewhere.example/v2/_catalog?last=b",
        "http://registry.local:9001/v2/_catalog?last=b",
        "https://registry.local:9002/v2/_catalog?last=b",
        "https://registry.local:9001@elsewhere.example/v2/_catalog",
        "/v2/other/tags/list",
        "file:///etc/passwd",
    ],
)
def test_a_next_page_on_another_host_or_of_another_listing_is_refused(target: str) -> None:
    with pytest.raises(ProtocolError, match="next page"):
        next_page(_HERE, f'<{target}>; rel="next"')


@given(st.text(alphabet=string.printable, max_size=200))
def test_no_link_whatever_breaks_the_parser_or_leaves_the_listing(link: str) -> None:
    try:
        target = next_page(_HERE, link)
    except ProtocolError:
        return
    assert target == "" or target.startswith("/v2/_catalog")


def test_a_throw_away_is_unique_and_carries_what_its_tag_stood_for() -> None:
    digests = ("sha256:" + "a" * 64, "sha256:" + "b" * 64)
    first, second = throw_away(digests), throw_away(digests)
    assert first.digest != second.digest
    assert first.releases == second.releases == digests
    assert first.children == ()


def test_an_image_or_index_is_no_throw_away() -> None:
    entry = {"mediaType": "x", "digest": "sha256:" + "a" * 64}
    data = json.loads(throw_away(()).content)
    assert Manifest(OCI_INDEX, json.dumps({**data, "manifests": [entry]}).encode()).releases is None
    assert Manifest(OCI_INDEX, b'{"manifests": []}').releases is None


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"manifests": 1}', b'{"manifests": [1, {"digest": "../x"}]}', b"[" * 100000]
)
def test_a_malformed_manifest_has_no_children(content: bytes) -> None:
    assert Manifest(OCI_INDEX, content).children == ()
