"""Tokens for calls to the agent: what is wrong with Keystone or its URL is one clear line."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from sysreg_cli.cli.keystone import require_auth_url
from sysreg_cli.errors import UsageError
from tests.unit.cli.conftest import Outcome


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://keystone:5000/v2.0", "API v2.0"),
        ("http://keystone:5000/v2.0/", "API v2.0"),
        (" http://keystone:5000/v3", "blank"),
        ("http://keystone:5000/v3\n", "line end"),
        ("http://keystone:5000/v3\r", "line end"),
        ("http://key stone:5000/v3", "blank"),
        ("http://keystone:5000/\x1b[31m", "control character"),
        ("keystone:5000/v3", "not an http:// or https:// URL"),
        ("ftp://keystone/v3", "not an http:// or https:// URL"),
        ("http:///v3", "not an http:// or https:// URL"),
        ("http://keystone:port/v3", "not an http:// or https:// URL"),
        ("http://[::1/v3", "not an http:// or https:// URL"),
    ],
)
def test_a_wrong_url_of_keystone_is_told_with_what_is_wrong(url: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        require_auth_url(url)
    message = str(caught.value)
    assert says in message
    assert "OS_AUTH_URL" in message
    assert message.isprintable()


@pytest.mark.parametrize(
    "url", ["http://keystone:5000", "https://keystone/identity/v3/", "http://[fd00::1]:5000/v3"]
)
def test_a_good_url_is_taken_as_it_is(url: str) -> None:
    assert require_auth_url(url) == url


@pytest.fixture
def asking(system: Callable[..., Outcome], https_server: HTTPServer, ca_file: object) -> Callable[..., str]:
    """`certificate-list` of a user whom Keystone, which is the test's server, answers as given."""

    def call(answer: Response, **environ: str) -> str:
        https_server.expect_request("/v3/auth/tokens", "POST").respond_with_response(answer)
        url = https_server.url_for("")
        keystone = {"OS_AUTH_URL": url, "OS_CACERT": str(ca_file), "OS_PROJECT_NAME": "admin"}
        code, out, err = system("certificate-list", **{"SYSREG_AGENT": url, **keystone, **environ})
        assert (code, out) == (1, "")
        assert err.count("\n") == 1
        assert "internal error" not in err
        return err

    return call


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Response("", 302, headers={"Location": "https://elsewhere.example/"}), "redirects to another URL"),
        (Response("", 301), "redirects to another URL"),
        (Response("", 401), "refused the credentials of admin"),
        (Response("", 403), "does not give admin a token"),
        (Response("", 404), "it has no v3 API there"),
        (Response("", 503), "it answered 503"),
        (Response("<html>", 200), "its response makes no sense"),
        (Response("{}", 201), "its response makes no sense"),
    ],
)
def test_a_keystone_that_gives_no_token_is_told_with_its_url(
    asking: Callable[..., str], https_server: HTTPServer, answer: Response, says: str
) -> None:
    line = asking(answer)
    assert says in line
    assert https_server.url_for("/v3") in line
    assert [request.path for request, _ in https_server.log] == ["/v3/auth/tokens"]


def test_no_proxy_is_asked(asking: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    assert "it answered 503" in asking(Response("", 503))
