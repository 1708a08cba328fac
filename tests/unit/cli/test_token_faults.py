"""What a user sees when the token server is not as it should be, or when credentials or addresses are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.unit.cli.conftest import Outcome

System = Callable[..., Outcome]

pytestmark = pytest.mark.usefixtures("no_pauses")


# -- the token server


@pytest.mark.parametrize(
    "realm",
    [
        "http://localhost:{port}/token",
        "https://user@localhost:{port}/token",
        "token",
        "https://[/",
        "ftp://x/",
    ],
)
def test_no_password_is_sent_to_a_realm_that_is_not_https(
    listing: Callable[..., str], https_server: HTTPServer, realm: str
) -> None:
    where = realm.replace("{port}", str(https_server.port))
    https_server.expect_request("/v2/").respond_with_data(
        "", 401, headers={"WWW-Authenticate": f'Bearer realm="{where}",service="s"'}
    )
    assert "no password was sent" in listing(https_server.port)
    assert not any("Authorization" in request.headers for request, _ in https_server.log)


def test_our_own_registrys_password_goes_to_our_token_server_alone(
    system: System, https_server: HTTPServer, tmp_path: Path
) -> None:
    port = https_server.port
    _with_tokens(https_server, lambda _: Response(json.dumps({"token": "t"}), 200))
    conf = tmp_path / "sysreg.conf"

    def listing(*more: str) -> Outcome:
        return system("registry-image-list", "-f", "value", *more, SYSREG_CONF=str(conf))

    ours = f"[registry]\nhost_names = localhost\nurl = https://localhost:{port}\n"
    conf.write_text(f"{ours}[token_server]\nport = {port}\n")
    assert listing()[:2] == (0, "app\n")
    sent = len(https_server.log)
    conf.write_text(ours)
    for options in ([], ["--registry", f"LOCALHOST:{port}"]):
        code, _, err = listing(*options)
        assert code == 1
        assert (
            f"names 'localhost:{port}' as its token server, and sysreg.conf localhost:9002; no password"
            in err
        )
    assert not any("Authorization" in request.headers for request, _ in https_server.log[sent:])
    # another registry may have any token server
    conf.write_text("[registry]\nhost_names = localhost\n")
    assert listing("--registry", f"localhost:{port}")[:2] == (0, "app\n")


def _said(code: str, message: str) -> str:
    return json.dumps({"errors": [{"code": code, "message": message}]})


def test_a_token_server_that_is_away_is_named_so(
    listing: Callable[..., str], https_server: HTTPServer
) -> None:
    challenge = 'Bearer realm="https://localhost:1/token",service="s"'
    https_server.expect_request("/v2/").respond_with_data("", 401, headers={"WWW-Authenticate": challenge})
    line = listing(https_server.port)
    assert line == "system: localhost:1 (token server): connection refused; check that it runs\n"


def _with_tokens(server: HTTPServer, answer: Callable[[Request], Response]) -> None:
    challenge = f'Bearer realm="https://localhost:{server.port}/token",service="s"'

    def serve(request: Request) -> Response:
        if request.headers.get("Authorization", "").startswith("Bearer "):
            return Response(json.dumps({"repositories": ["app"]}), 200)
        return Response("", 401, headers={"WWW-Authenticate": challenge})

    server.expect_request("/v2/").respond_with_handler(serve)
    server.expect_request("/v2/_catalog").respond_with_handler(serve)
    server.expect_request("/token").respond_with_handler(answer)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Response("<html>", 200, content_type="text/html"), "not with JSON"),
        (Response("{}", 200), "holds no token"),
        (Response('{"token": "a\\r\\nb"}', 200), "holds no token"),
        (Response("", 401), "the credentials of admin were refused"),
        (
            Response(_said("UNAUTHORIZED", "Keystone refused it"), 401),
            "server): Keystone refused it; check the",
        ),
        (Response("", 403), "may not log in"),
        (
            Response(_said("UNAVAILABLE", "no Keystone; try later"), 503, headers={"Retry-After": "0"}),
            "server): no Keystone; try later\n",
        ),
        (Response("", 503, headers={"Retry-After": "0"}), "answered 503"),
        (Response("", 429, headers={"Retry-After": "0"}), "too many requests"),
        (Response("", 400), "answered 400"),
    ],
)
def test_a_token_server_that_gives_none(
    listing: Callable[..., str], https_server: HTTPServer, answer: Response, words: str
) -> None:
    _with_tokens(https_server, lambda _: answer)
    line = listing(https_server.port)
    assert "(token server)" in line or "not with JSON" in line
    assert words in line


def test_one_token_serves_all_pages(system: System, https_server: HTTPServer) -> None:
    _with_tokens(https_server, lambda _: Response('{"token": "t", "expires_in": 300}', 200))
    code, out, _ = system(
        "registry-image-list", "--registry", f"localhost:{https_server.port}", "-f", "value"
    )
    assert (code, out) == (0, "app\n")
    assert [request.path for request, _ in https_server.log].count("/token") == 1


@pytest.mark.parametrize("asks_agent", [False, True], ids=["another registry", "the agent is named"])
def test_another_registry_that_refuses_the_catalog_is_not_answered_for_by_the_local_agent(
    listing: Callable[..., str], https_server: HTTPServer, asks_agent: bool
) -> None:
    _refuse_the_catalog(https_server)
    environ = {"SYSREG_AGENT": "/nowhere"} if asks_agent else {}
    line = listing(https_server.port, OS_AUTH_TOKEN="given", **environ)
    assert line.startswith("system: listing the repositories failed") is not asks_agent
    assert ("no agent answers at /nowhere" in line) is asks_agent


@pytest.mark.parametrize("words", [(), ("--registry", "LOCALHOST:{port}")])
def test_the_own_registry_is_answered_for_by_the_agent(
    system: System, https_server: HTTPServer, tmp_path: Path, words: tuple[str, ...]
) -> None:
    _refuse_the_catalog(https_server)
    settings = tmp_path / "sysreg.conf"
    settings.write_text(
        f"[registry]\nhost_names = localhost\nurl = https://localhost:{https_server.port}\n"
        f"[token_server]\nport = {https_server.port}\n[agent]\nsocket = /nowhere\n"
    )
    given = [word.format(port=https_server.port) for word in words]
    code, _, err = system("registry-image-list", *given, OS_AUTH_TOKEN="given")
    assert code == 1
    assert "no agent answers at /nowhere" in err


def _refuse_the_catalog(server: HTTPServer) -> None:
    challenge = f'Bearer realm="https://localhost:{server.port}/token",service="s"'
    for path, error in (("/v2/", ""), ("/v2/_catalog", ',error="insufficient_scope"')):
        headers = {"WWW-Authenticate": challenge + error}
        server.expect_request(path).respond_with_data("", 401, headers=headers)
    server.expect_request("/token").respond_with_json({"token": "t", "expires_in": 300})


# -- what the caller left out, or gave wrong


@pytest.mark.parametrize("token", ["a\nb", "schlüssel"])
def test_a_keystone_token_that_can_be_none_is_not_sent(system: System, token: str) -> None:
    code, out, err = system("registry-image-list", "--registry", "localhost:1", OS_AUTH_TOKEN=token)
    assert (code, out) == (2, "")
    assert token not in err


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"OS_USERNAME": ""}, ("--os-username", "OS_USERNAME")),
        ({"OS_PASSWORD": ""}, ("--os-password", "OS_PASSWORD")),
        (
            {"OS_APPLICATION_CREDENTIAL_ID": "1f"},
            ("--os-application-credential-secret", "OS_APPLICATION_CREDENTIAL_SECRET"),
        ),
    ],
)
def test_missing_credentials_name_option_and_variable(
    listing: Callable[..., str], environ: dict[str, str], words: tuple[str, ...]
) -> None:
    line = listing(1, **environ)
    assert all(word in line for word in words)


@pytest.mark.parametrize("where", ["", "https://registry.local", "a b", "host:0", "host:99999", "h:1/x"])
def test_an_address_that_is_none(system: System, where: str) -> None:
    code, out, err = system("registry-image-list", "--registry", where, SYSREG_REGISTRY="")
    if where:
        assert code == 2
        assert "not host:port" in err
    else:
        assert code == 1  # the default, which does not run here
    assert out == ""
