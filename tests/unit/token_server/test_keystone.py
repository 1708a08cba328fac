"""Asking Keystone, against answers that the real one gives only on a bad day."""

from __future__ import annotations

import pytest
from pytest_httpserver import HTTPServer

from sysreg_cli.errors import Unavailable
from sysreg_cli.settings import KeystoneSettings
from sysreg_cli.token_server.credentials import from_pair
from sysreg_cli.token_server.keystone import Keystone

ACCEPTED = {
    "token": {
        "user": {"id": "1", "name": "testuser", "domain": {"id": "default", "name": "Default"}},
        "issued_at": "2026-01-01T00:00:00.000000Z",
        "expires_at": "2999-01-01T00:00:00.000000Z",
        "methods": ["password"],
    }
}


@pytest.fixture
def keystone(httpserver: HTTPServer) -> Keystone:
    return Keystone(KeystoneSettings(auth_url=httpserver.url_for("/v3")), connections=1)


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
