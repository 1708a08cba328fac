"""What a user sees when the registry or its certificate is not as it should be."""

from __future__ import annotations

import datetime
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from pytest_httpserver import HTTPServer
from werkzeug import Response

from sysreg_cli.registry.transport import Transport
from tests.unit.cli.conftest import Outcome
from tests.unit.cli.fakes import raw_server

System = Callable[..., Outcome]

pytestmark = pytest.mark.usefixtures("no_pauses")


# -- no connection, no answer


def test_a_name_that_is_not_known(system: System) -> None:
    code, _, err = system("registry-image-list", "--registry", "registry.invalid:9001")
    assert code == 1
    assert "registry.invalid:9001: the name registry.invalid is not known" in err


def test_a_connection_that_is_refused(listing: Callable[..., str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    assert f"localhost:{port}: connection refused" in listing(port)


def test_a_server_that_accepts_and_then_says_nothing(listing: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert f"localhost:{port}: no answer within 0.3 s" in listing(port, "--timeout", "0.3")


def test_a_registry_that_hangs_in_the_middle_of_an_answer(
    listing: Callable[..., str], server_tls: ssl.SSLContext
) -> None:
    release = threading.Event()

    def hang(connection: ssl.SSLSocket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
        release.wait(20)

    with raw_server(server_tls, hang) as port:
        assert f"localhost:{port}: no answer within 0.3 s" in listing(port, "--timeout", "0.3")
        release.set()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-",
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
    ids=["body", "chunk", "header", "nothing", "not-http"],
)
def test_a_connection_that_closes_half_way(
    listing: Callable[..., str], server_tls: ssl.SSLContext, answer: bytes
) -> None:
    with raw_server(server_tls, lambda connection, _: connection.sendall(answer)) as port:
        line = listing(port)
    assert f"localhost:{port}" in line
    assert "the connection broke" in line or "not with JSON" in line


def test_an_answer_without_end(
    listing: Callable[..., str], registry: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Transport, "max_response", 3 << 20)
    registry.expect_request("/v2/_catalog").respond_with_data(b" " * (4 << 20))
    assert "the answer is larger than 3 MiB" in listing(registry.port)


# -- certificates


def _serving(authority: trustme.CA, *names: str, **options: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, **options).configure_cert(context)
    return context


def _ok(connection: ssl.SSLSocket, _: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


def test_an_expired_certificate(listing: Callable[..., str], authority: trustme.CA) -> None:
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    expired = _serving(
        authority, "localhost", not_before=yesterday - datetime.timedelta(days=9), not_after=yesterday
    )
    with raw_server(expired, _ok) as port:
        assert re.search(
            rf"localhost:{port}: its certificate has expired \(this machine's clock says 20\d\d-.* UTC\)",
            listing(port),
        )


def test_a_certificate_for_another_name(listing: Callable[..., str], authority: trustme.CA) -> None:
    with raw_server(_serving(authority, "elsewhere.example"), _ok) as port:
        assert "its certificate does not carry this name" in listing(port)


def test_a_certificate_of_an_unknown_ca(listing: Callable[..., str]) -> None:
    with raw_server(_serving(trustme.CA(), "localhost"), _ok) as port:
        line = listing(port, REQUESTS_CA_BUNDLE="/dev/null")
    assert "its certificate comes from an unknown CA" in line
    assert "--registry-ca" in line


def test_a_server_that_speaks_no_tls(listing: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def answer() -> None:
            connection, _ = plain.accept()
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        assert "TLS failed" in listing(plain.getsockname()[1])
        thread.join()


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_ca_file_that_is_none(system: System, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "given.pem"
    if content is not None:
        path.write_bytes(content)
    code, _, err = system("registry-image-list", "--registry-ca", str(path), "--registry", "localhost:1")
    assert code == 1
    assert f"{path}: " in err


def test_what_docker_trusts_is_trusted_and_a_server_certificate_is_anchor_enough(
    system: System, registry: HTTPServer, tmp_path: Path, server_tls: ssl.SSLContext
) -> None:
    registry.expect_request("/v2/_catalog").respond_with_json({"repositories": ["app"]})
    presented = ssl.get_server_certificate(("127.0.0.1", registry.port))
    directory = tmp_path / "certs.d" / f"localhost:{registry.port}"
    directory.mkdir(parents=True)
    (directory / "server.crt").write_text(presented)

    code, out, err = system(
        "registry-image-list",
        "-f",
        "value",
        SYSREG_REGISTRY=f"localhost:{registry.port}",
        SYSREG_REGISTRY_CA="",
    )

    assert (code, out, err) == (0, "app\n", "")


# -- not a registry, or a lying one


@pytest.mark.parametrize(
    "answer",
    [
        Response("<html>hello</html>", 200, content_type="text/html"),
        Response("<html>hello</html>", 404, content_type="text/html"),
        Response("", 301, headers={"Location": "https://elsewhere.example/"}),
        Response("", 401),
        Response("", 401, headers={"WWW-Authenticate": 'Basic realm="x"'}),
    ],
    ids=["html", "not-found", "redirect", "no-challenge", "basic"],
)
def test_a_web_server_that_is_no_registry(
    listing: Callable[..., str], https_server: HTTPServer, answer: Response
) -> None:
    https_server.expect_request("/v2/").respond_with_response(answer)
    assert "check" in listing(https_server.port)


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b'{"repositories": 1}', b'{"repositories": [1]}', b"[" * 100_000, b"\xff", b""]
)
def test_a_catalog_that_is_none(listing: Callable[..., str], registry: HTTPServer, body: bytes) -> None:
    registry.expect_request("/v2/_catalog").respond_with_data(body, content_type="application/json")
    listing(registry.port)


@pytest.mark.parametrize(
    "link",
    [
        "</v2/_catalog?n=1000>",
        "</v2/_catalog?last=x>",
        "<https://elsewhere.example/v2/_catalog?last=x>",
        "<http://localhost/v2/_catalog?last=x>",
        "</v2/other/tags/list>",
        "<https://[/>",
    ],
    ids=["itself", "circle", "other-host", "no-tls", "other-listing", "no-url"],
)
def test_a_registry_that_lies_about_its_pages(
    listing: Callable[..., str], registry: HTTPServer, link: str
) -> None:
    registry.expect_request("/v2/_catalog").respond_with_json(
        {"repositories": ["app"]}, headers={"Link": f'{link}; rel="next"'}
    )
    line = listing(registry.port)
    assert "next page" in line or "in a circle" in line
    assert len(registry.log) <= 3


def test_names_with_control_characters_cannot_steer_the_terminal(
    system: System, registry: HTTPServer
) -> None:
    registry.expect_request("/v2/_catalog").respond_with_json({"repositories": ["a\x1b[2Jb\nc\u202e"]})
    for form in ("table", "value", "csv"):
        code, out, _ = system("registry-image-list", "--registry", f"localhost:{registry.port}", "-f", form)
        assert code == 0
        assert "\x1b" not in out
        assert "\u202e" not in out
        assert "a\\x1b[2Jb\\nc\\u202e" in out


def test_an_error_text_of_the_server_stays_on_one_line(
    listing: Callable[..., str], registry: HTTPServer
) -> None:
    registry.expect_request("/v2/_catalog").respond_with_json(
        {"errors": [{"code": "DENIED", "message": "no\nway\x1b[31m"}]}, status=400
    )
    line = listing(registry.port)
    assert r"DENIED no\nway\x1b[31m" in line


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "refused the token"),
        (403, "answered 403"),
        (405, "read-only, or has deletes switched off"),
        (429, "answered 429"),
        (500, "answered 500"),
        (503, "try again later"),
        (418, "answered 418"),
    ],
)
def test_a_registry_that_refuses(
    listing: Callable[..., str], registry: HTTPServer, status: int, words: str
) -> None:
    registry.expect_request("/v2/_catalog").respond_with_data("", status=status)
    assert words in listing(registry.port)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_passing_failure_of_a_listing_is_tried_again(
    system: System, registry: HTTPServer, status: int
) -> None:
    answers: Iterator[Response] = iter(
        [
            Response("", status, headers={"Retry-After": "0"}),
            Response("", status, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
            Response(json.dumps({"repositories": ["app"]}), 200),
        ]
    )
    registry.expect_request("/v2/_catalog").respond_with_handler(lambda _: next(answers))
    code, out, err = system("registry-image-list", "--registry", f"localhost:{registry.port}", "-f", "value")
    assert (code, out, err) == (0, "app\n", "")
