"""Clients that were written for StarlingX's v1 API send what they send: bytes on the wire, over both ways."""

from __future__ import annotations

import json

import pytest
import trustme

from devstack.waiting import wait_until
from tests.functional.v1.conftest import Api

INSTALL = b"/v1/certificate/certificate_install"
BOUNDARY = b"boundary-of-an-old-client"


@pytest.fixture(scope="module")
def parts() -> tuple[bytes, bytes]:
    """Key and chain that are fine but for the host name: refused for that alone, so that nothing changes."""
    issued = trustme.CA().issue_cert("not-the-registry.example")
    chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
    return issued.private_key_pem.bytes(), chain


def form(bundle: bytes) -> bytes:
    """A multipart form as an old client makes it: unknown fields, a file name with a path and blanks."""
    fields = [
        b'Content-Disposition: form-data; name="mode"\r\n\r\ndocker_registry',
        b'Content-Disposition: form-data; name="force"\r\n\r\ntrue',
        b'Content-Disposition: form-data; name="who_knows"\r\n\r\nwhat',
        b'Content-Disposition: form-data; name="file"; filename="/home/sys admin/my cert.pem"\r\n'
        b"Content-Type: application/x-pem-file\r\n\r\n" + bundle,
    ]
    return (
        b"".join(b"--" + BOUNDARY + b"\r\n" + field + b"\r\n" for field in fields)
        + b"--"
        + BOUNDARY
        + b"--\r\n"
    )


def head(api: Api, method: bytes, target: bytes, *lines: bytes, version: bytes = b"1.1") -> bytes:
    token = b"X-Auth-Token: " + api.token("admin").encode()
    start = method + b" " + target + b" HTTP/" + version
    return b"\r\n".join([start, b"Host: x", token, b"Connection: close", *lines, b"", b""])


def upload(
    api: Api, bundle: bytes, *, chunked: bool = False, version: bytes = b"1.1", slash: bytes = b""
) -> str:
    """The error that a refused upload is answered with."""
    kind = b"Content-Type: multipart/form-data; boundary=" + BOUNDARY
    body = form(bundle)
    if chunked:
        length = b"Transfer-Encoding: chunked"
        pieces = [body[start : start + 700] for start in range(0, len(body), 700)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    else:
        length = b"Content-Length: %d" % len(body)
    request = head(api, b"POST", INSTALL + slash, kind, length, version=version) + body
    status, headers, answer = api.raw(request)
    assert status == 200
    if "transfer-encoding" in headers:
        answer = answer.partition(b"\r\n")[2].rpartition(b"\r\n0\r\n")[0]
    body = json.loads(answer)
    assert set(body) >= {"success", "error", "body", "certificates"}
    assert (body["success"], body["body"], body["certificates"]) == ("", "", [])
    return str(body["error"])


def test_every_way_to_send_the_form_is_the_same_to_us(api: Api, parts: tuple[bytes, bytes]) -> None:
    key, chain = parts
    error = upload(api, key + chain)
    assert "registry.local" in error
    assert upload(api, chain + key) == error
    assert upload(api, key + chain, chunked=True) == error
    assert upload(api, chain + key, chunked=True, slash=b"/") == error
    assert upload(api, key + chain, version=b"1.0") == error


def test_a_post_without_body_or_length_starts_a_collection(api: Api) -> None:
    target = b"/v1/registry_image/?garbage_collect=True&dry_run=True"

    def started() -> bool:
        # 409 as long as a collection of another test runs
        return api.raw(head(api, b"POST", target))[0] == 204

    wait_until(started, 60, what="a collection starts")
    status = b"/v1/registry_image/garbage_collect"
    wait_until(
        lambda: b'"idle"' in api.raw(head(api, b"GET", status, version=b"1.0"))[2], 60, what="it is over"
    )
