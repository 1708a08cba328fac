"""Challenges, pages and manifests: the pure parts of the registry's client."""

from __future__ import annotations

import json
import string
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysreg_cli.errors import ProtocolError
from sysreg_cli.registry.challenge import Challenge, parse_bearer
from sysreg_cli.registry.manifests import OCI_INDEX, OCI_MANIFEST, RemoteManifest, placeholder
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


def test_a_placeholder_is_unique_and_carries_what_its_tag_stood_for() -> None:
    digests = ("sha256:" + "a" * 64, "sha256:" + "b" * 64)
    first, second = (placeholder({"v1": digests, "v2": digests[:1]}) for _ in range(2))
    assert first.digest != second.digest
    assert first.is_placeholder
    assert [first.replaces(tag) for tag in ("v1", "v2", "v3")] == [digests, digests[:1], ()]
    assert first.children == ()


def test_a_placeholder_of_an_older_version_replaces_the_same_for_each_tag() -> None:
    digest = "sha256:" + "a" * 64
    names = {"org.starlingx.sysreg.throw-away": "x", "org.starlingx.sysreg.releases": digest}
    content = json.dumps({"schemaVersion": 2, "manifests": [], "annotations": names}).encode()
    assert RemoteManifest(OCI_INDEX, content).replaces("any") == (digest,)


def test_a_placeholder_is_the_record_of_its_delete() -> None:
    digests = ("sha256:" + "a" * 64, "sha256:" + "b" * 64)
    before = time.time()
    record = placeholder({"v1": digests, "v.2": digests[:1]}, by="somebody").delete_record
    assert record is not None
    assert (record.tags, record.by) == ({"v1": digests, "v.2": digests[:1]}, "somebody")
    assert before <= (record.at or 0) <= time.time()


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ({}, ("", None)),  # an older version
        ({"format": "1", "deleted-at": "yesterday", "deleted-by": 7}, ("", None)),
        ({"deleted-at": "0001-01-01T00:00:00+23:59"}, ("", None)),
        ({"format": "2"}, None),  # a later version
        ({"releases.v1": "nonsense"}, ("", None)),
        ({"releases./etc": "sha256:" + "a" * 64}, ("", None)),
    ],
)
def test_a_record_that_does_not_say_all_is_read_as_far_as_it_makes_sense(
    names: dict[str, Any], found: tuple[str, float | None] | None
) -> None:
    prefix = "org.starlingx.sysreg."
    names = {prefix + "throw-away": "x", **{prefix + name: value for name, value in names.items()}}
    content = json.dumps({"schemaVersion": 2, "manifests": [], "annotations": names}).encode()
    record = RemoteManifest(OCI_INDEX, content).delete_record
    assert (record and (record.by, record.at)) == found
    assert record is None or record.tags == {}


def test_an_image_or_index_is_no_placeholder() -> None:
    entry = {"mediaType": "x", "digest": "sha256:" + "a" * 64}
    data = json.loads(placeholder({"v1": [entry["digest"]]}).content)
    for content in (json.dumps({**data, "manifests": [entry]}), '{"manifests": []}'):
        manifest = RemoteManifest(OCI_INDEX, content.encode())
        assert not manifest.is_placeholder
        assert manifest.replaces("v1") == ()


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"manifests": 1}', b'{"manifests": [1, {"digest": "../x"}]}', b"[" * 100000]
)
def test_a_malformed_manifest_has_no_children(content: bytes) -> None:
    assert RemoteManifest(OCI_INDEX, content).children == ()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"signatures": []}',
        b'{"signatures": [{"protected": "!"}]}',
        b'{"signatures": [{"protected": "W10"}]}',
        b'{"signatures": [{"protected": "eyJmb3JtYXRMZW5ndGgiOiAieCJ9"}]}',
        b'{"signatures": [{"protected": "eyJmb3JtYXRMZW5ndGgiOiAxfQ"}]}',
        b"[" * 100000,
    ],
)
def test_a_signed_manifest_whose_signature_makes_no_sense_has_the_digest_of_its_bytes(content: bytes) -> None:
    media_type = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    assert RemoteManifest(media_type, content).digest == RemoteManifest(OCI_MANIFEST, content).digest


def test_only_entries_of_an_index_with_a_manifests_media_type_are_manifests() -> None:
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:" + "a" * 64}
    config = {"mediaType": "application/vnd.buildkit.cacheconfig.v0", "digest": "sha256:" + "b" * 64}
    untyped = {"digest": "sha256:" + "c" * 64}
    image = {"mediaType": OCI_MANIFEST, "digest": "sha256:" + "d" * 64}
    cache = RemoteManifest(
        OCI_INDEX, json.dumps({"manifests": [{**layer, "size": 7}, config, untyped, image]}).encode()
    )
    assert cache.children == (untyped["digest"], image["digest"])
    assert cache.indexes == (untyped["digest"],)
    assert set(cache.references) == {entry["digest"] for entry in (layer, config, untyped, image)}
    assert cache.blobs == {cache.digest: len(cache.content), layer["digest"]: 7}


@pytest.mark.parametrize(
    "start", ["", "Bearer ", "Bearer a", "Bearer a=", "a,", '<a>;rel="', "<a>;", "<a>;rel=x"]
)
def test_a_long_row_of_blanks_takes_no_long_time(start: str) -> None:
    header = start + " " * 200_000 + "\x00"
    before = time.process_time()
    parse_bearer([header])
    next_page(_HERE, header)
    # A pattern that tries every split of the blanks takes minutes.
    assert time.process_time() - before < 5
