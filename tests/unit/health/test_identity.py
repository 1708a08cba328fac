"""The checks of Keystone and of clocks: which answer means what, and which remedy fits."""

from __future__ import annotations

import http.client
import ssl
from email.utils import formatdate
from pathlib import Path

import pytest
import trustme
from pytest_httpserver import HTTPServer

from devstack.ports import free_ports
from sysreg_cli.errors import Unavailable
from sysreg_cli.health import identity
from sysreg_cli.health.readings import Agent, Readings
from sysreg_cli.health.results import Result, Skipped, Status
from sysreg_cli.host.probe import Response
from sysreg_cli.settings import KeystoneSettings, Settings

_VERSION = {"version": {"id": "v3.14", "status": "stable"}}


def no_agent() -> Agent:
    raise Unavailable("no agent")


def keystone(url: str, ca_file: Path | None = None) -> Result:
    return identity.keystone(
        Readings(Settings(keystone=KeystoneSettings(auth_url=url, ca_file=ca_file)), no_agent)
    )


def test_only_keystones_version_3_is_keystone(httpserver: HTTPServer) -> None:
    url = httpserver.url_for("").rstrip("/")
    for text, status in ((_VERSION, Status.OK), ({"status": "ok"}, Status.FAILED), ([], Status.FAILED)):
        httpserver.clear()
        httpserver.expect_request("/v3").respond_with_json(text)
        assert keystone(url).status is status
        assert keystone(f"{url}/v3").status is status
    httpserver.clear()
    httpserver.expect_request("/v3").respond_with_data("<html>", 503)
    assert keystone(url).what.endswith("(503) is not Keystone's API v3")


def test_no_url_and_no_answer_are_failures_that_say_where_the_url_is_set() -> None:
    (port,) = free_ports(1)
    for url in ("", f"http://127.0.0.1:{port}", "http://name.invalid:5000"):
        found = keystone(url)
        assert found.status is Status.FAILED
        assert "auth_url in section [keystone] of sysreg.conf" in found.detail


def test_a_keystone_of_an_unknown_ca_is_mended_with_the_file_of_the_ca(tmp_path: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with HTTPServer(host="localhost", ssl_context=context) as server:
        server.expect_request("/v3").respond_with_json(_VERSION)
        for ca, status in ((stranger, Status.FAILED), (authority, Status.OK)):
            (tmp_path / "ca.crt").write_bytes(ca.cert_pem.bytes())
            found = keystone(server.url_for(""), tmp_path / "ca.crt")
            assert found.status is status
            assert ("ca_file" in found.detail) == (status is Status.FAILED)


@pytest.mark.parametrize(
    ("offset", "status"),
    [
        (0, Status.OK),
        (9, Status.OK),
        (-9, Status.OK),
        (30, Status.WARNING),
        (-30, Status.WARNING),
        (90, Status.FAILED),
        (-90, Status.FAILED),
    ],
)
def test_a_clock_may_differ_by_ten_seconds_and_is_a_failure_where_tokens_are_refused(
    offset: int, status: Status
) -> None:
    def respond() -> Response:
        headers = http.client.HTTPMessage()
        headers["Date"] = formatdate(1_000_000 + offset, usegmt=True)
        return Response([], 200, b"", headers, received=1_000_000.4)

    readings = Readings(Settings(), no_agent)
    readings.registry = respond  # type: ignore[method-assign]
    readings.keystone = respond  # type: ignore[method-assign]
    found = identity.clocks(readings)
    assert found.status is status
    word = "ahead of" if offset > 0 else "behind"
    assert (word in found.what) == (status is not Status.OK)


def test_without_any_answer_no_clock_is_judged() -> None:
    def refuse() -> Response:
        raise Unavailable("no answer")

    readings = Readings(Settings(), no_agent)
    readings.registry = refuse  # type: ignore[method-assign]
    readings.keystone = refuse  # type: ignore[method-assign]
    with pytest.raises(Skipped, match="neither the registry nor Keystone answers"):
        identity.clocks(readings)
