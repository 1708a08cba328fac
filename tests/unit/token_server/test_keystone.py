"""Keystone's responses that the real one gives only on a bad day."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from devstack.waiting import wait_until
from sysreg_cli.errors import Unavailable
from sysreg_cli.settings import KeystoneSettings
from sysreg_cli.token_server.credentials import Credentials, from_pair, from_token
from sysreg_cli.token_server.keystone import Keystone

ACCEPTED = {
    "token": {
        "user": {"id": "1", "name": "testuser", "domain": {"id": "default", "name": "Default"}},
        "issued_at": "2026-01-01T00:00:00.000000Z",
        "expires_at": "2999-01-01T00:00:00.000000Z",
        "methods": ["password"],
    }
}


def impatient(url: str, seconds: float) -> KeystoneSettings:
    """Settings with a shorter timeout than the file can state, in whole seconds."""
    return KeystoneSettings(auth_url=url, timeout=seconds)  # type: ignore[arg-type]


@pytest.fixture
def keystone(httpserver: HTTPServer) -> Keystone:
    return Keystone(KeystoneSettings(auth_url=httpserver.url_for("/v3")), connections=1, retry_pause=0.01)


@pytest.mark.parametrize(
    "credentials", [from_pair("testuser", "x"), from_pair("a" * 32, "x"), from_token("gAAAAA")]
)
def test_a_redirect_is_neither_followed_nor_believed(
    httpserver: HTTPServer, keystone: Keystone, credentials: Credentials
) -> None:
    httpserver.expect_request("/elsewhere").respond_with_json(ACCEPTED, 201, {"X-Subject-Token": "t"})
    httpserver.expect_request("/v3/auth/tokens").respond_with_json(
        ACCEPTED, 307, {"X-Subject-Token": "t", "Location": httpserver.url_for("/elsewhere")}
    )
    with pytest.raises(Unavailable, match="redirects to another URL"):
        keystone.authenticate(credentials)
    assert [request.path for request, _ in httpserver.log] == ["/v3/auth/tokens"]


def test_a_user_is_let_in_although_keystone_stumbles_once(httpserver: HTTPServer, keystone: Keystone) -> None:
    httpserver.expect_ordered_request("/v3/auth/tokens").respond_with_data("database is locked", 500)
    httpserver.expect_ordered_request("/v3/auth/tokens").respond_with_json(
        ACCEPTED, 201, {"X-Subject-Token": "t"}
    )
    assert keystone.authenticate(from_pair("testuser", "x")).identity.name == "testuser"


def test_a_keystone_that_stays_broken_is_asked_twice_and_then_unavailable(
    httpserver: HTTPServer, keystone: Keystone
) -> None:
    httpserver.expect_request("/v3/auth/tokens").respond_with_data("no", 503)
    with pytest.raises(Unavailable, match="it answered 503"):
        keystone.authenticate(from_pair("testuser", "x"))
    assert len(httpserver.log) == 2


def test_a_refusal_is_asked_once_because_keystone_counts_it(
    httpserver: HTTPServer, keystone: Keystone
) -> None:
    httpserver.expect_request("/v3/auth/tokens").respond_with_data("no", 401)
    with pytest.raises(Exception, match="Keystone refused"):
        keystone.authenticate(from_pair("testuser", "x"))
    assert len(httpserver.log) == 1


def test_a_slow_keystone_is_asked_once_because_it_may_count_the_login_yet(httpserver: HTTPServer) -> None:
    asked = []

    def late(request: Request) -> Response:
        asked.append(request)
        time.sleep(0.4)
        return Response()

    httpserver.expect_request("/v3/auth/tokens").respond_with_handler(late)
    keystone = Keystone(impatient(httpserver.url_for("/v3"), 0.2), connections=1)
    with pytest.raises(Unavailable, match="no response in time"):
        keystone.authenticate(from_pair("testuser", "x"))
    assert len(asked) == 1
    wait_until(lambda: httpserver.log, what="the answer is done with")


def test_a_proxy_that_lost_patience_with_keystone_is_asked_once(
    httpserver: HTTPServer, keystone: Keystone
) -> None:
    httpserver.expect_request("/v3/auth/tokens").respond_with_data("no", 504)
    with pytest.raises(Unavailable, match="it answered 504"):
        keystone.authenticate(from_pair("testuser", "x"))
    assert len(httpserver.log) == 1


def test_an_answer_that_stops_in_the_middle_is_not_asked_for_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        keystone = Keystone(impatient(url, 0.3), connections=1)
        login = pool.submit(keystone.authenticate, from_pair("testuser", "x"))
        with listener.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{")
            with pytest.raises(Unavailable, match="no connection"):
                login.result(10)
        listener.settimeout(0.1)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_a_connection_that_breaks_before_any_answer_is_made_once_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        keystone = Keystone(KeystoneSettings(auth_url=url, timeout=10), connections=1)
        login = pool.submit(keystone.authenticate, from_pair("testuser", "x"))
        for _ in range(2):
            connection = listener.accept()[0]
            connection.recv(65536)
            connection.close()
        with pytest.raises(Unavailable, match="no connection"):
            login.result(10)
        listener.settimeout(0.1)
        with pytest.raises(TimeoutError):
            listener.accept()
