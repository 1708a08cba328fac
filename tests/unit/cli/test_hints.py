"""Hints: certificates that expire soon and space that a delete releases are mentioned, to people only."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trustme
from pytest_httpserver import HTTPServer

from sysreg_cli.cli import hints
from sysreg_cli.reference import parse
from sysreg_cli.registry.deletion import Deletion, delete_image
from sysreg_cli.registry.manifests import OCI_MANIFEST, RemoteManifest
from tests.unit.registry.memory import MemoryRegistry

EXPIRY = [
    (0.5, "within a day"),
    (1.5, "in 1 day;"),
    (29.5, "in 29 days;"),
    (30.5, ""),
    (400, ""),
]


@pytest.mark.parametrize(("days", "said"), [(-1, "has expired"), *EXPIRY])
def test_a_certificate_is_mentioned_within_its_last_thirty_days(
    days: float, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    hints.expiry([("docker_registry", (datetime.now(UTC) + timedelta(days=days)).isoformat(sep=" "))])
    shown = capsys.readouterr().err
    assert said in shown
    assert bool(shown) == bool(said)


@pytest.mark.parametrize("date", ["", "soon", "2026-01-01"])
def test_a_date_that_makes_no_sense_is_no_hint(
    date: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    hints.expiry([("docker_registry", date)])
    assert capsys.readouterr().err == ""


def test_in_a_pipe_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    hints.expiry([("docker_registry", "2000-01-01 00:00:00+00:00")])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("days", "said"), EXPIRY)
@pytest.mark.parametrize("terminal", [True, False])
def test_so_is_the_one_that_the_registry_presents_while_it_is_listed(
    days: float,
    said: str,
    terminal: bool,
    authority: trustme.CA,
    system: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    end = datetime.now(UTC) + timedelta(days=days)
    authority.issue_cert("localhost", not_after=end).configure_cert(context)
    with HTTPServer(host="localhost", port=0, ssl_context=context) as server:
        server.expect_request("/v2/").respond_with_json({})
        server.expect_request("/v2/_catalog").respond_with_json({"repositories": ["app"]})
        server.expect_request("/v2/app/tags/list").respond_with_json({"tags": ["v1"]})
        where = f"localhost:{server.port}"
        for words in (["registry-image-list"], ["registry-image-tags", "app"]):
            code, _, err = system(*words, "--registry", where)
            assert code == 0
            if said and terminal:
                assert f"the certificate of {where} expires {said}" in err
                assert "certificate-install" in err
            else:
                assert err == ""


def image(*layers: tuple[str, int]) -> RemoteManifest:
    named = [f'{{"digest": "sha256:{name * 64}", "size": {size}}}' for name, size in layers]
    return RemoteManifest(
        OCI_MANIFEST, f'{{"config": {named[0]}, "layers": [{", ".join(named[1:])}]}}'.encode()
    )


def shown_after(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *deletions: Deletion
) -> str:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    hints.space(deletions)
    return capsys.readouterr().err


def test_what_a_delete_releases_leaves_out_what_other_tags_need(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registry: Any = MemoryRegistry()
    first = image(("a", 100), ("b", 5_000_000), ("c", 70_000_000))
    second = image(("d", 100), ("b", 5_000_000), ("e", 1_000_000))
    registry.push("v1", first)
    registry.push("also", first)
    registry.push("v2", second)
    shared = delete_image(registry, parse("app:also"))
    assert "frees no space" in shown_after(monkeypatch, capsys, shared)
    last = delete_image(registry, parse("app:v1"))
    assert "up to 70.0 MB" in shown_after(monkeypatch, capsys, last)
    # Deleted in one command, what both needed counts, and counts once.
    rest = delete_image(registry, parse("app:v2"))
    assert "up to 76.0 MB" in shown_after(monkeypatch, capsys, shared, last, rest)


def test_a_manifest_that_makes_no_sense_takes_its_own_size() -> None:
    for content in (b"", b"[]", b'{"config": 1, "layers": {"size": 1}}', b'{"layers": [{"size": "x"}, 1]}'):
        odd = RemoteManifest(OCI_MANIFEST, content)
        assert odd.blobs == {odd.digest: len(content)}
