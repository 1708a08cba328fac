"""Who a validated token stands for, and when no token is needed."""

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from sysreg_cli.agent.identity import Caller, CallerAuthenticator, Peer, Role, caller_of
from sysreg_cli.errors import NotAuthenticated, NotAuthorized, Unavailable
from sysreg_cli.keystone import TokenOwner
from sysreg_cli.settings import KeystoneSettings

SETTINGS = KeystoneSettings()
ROOT, OTHER = Peer(1, 0, 0), Peer(1, 1000, 1000)


def token(
    roles: tuple[str, ...] = ("admin",),
    project: str | None = "admin",
    project_domain: str = "Default",
    user_domain: str = "Default",
    **changes: Any,
) -> dict[str, Any]:
    scope = {"project": {"name": project, "domain": {"name": project_domain}}} if project else {}
    return {
        "user": {"id": "1", "name": "someone", "domain": {"name": user_domain}},
        "expires_at": "2999-01-01T00:00:00.000000Z",
        "roles": [{"name": role} for role in roles],
        **scope,
        **changes,
    }


def caller(document: dict[str, Any]) -> Caller:
    return caller_of(TokenOwner.of(document), SETTINGS)


def authenticate(authenticator: CallerAuthenticator, sent: str | None, peer: Peer | None) -> Caller:
    return asyncio.run(authenticator.authenticate(sent, peer, "192.0.2.1"))


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        (("admin", "member", "reader"), Role.ADMIN),
        (("Admin",), Role.ADMIN),
        (("operator", "reader"), Role.OPERATOR),
        (("reader",), Role.READER),
        (("member",), Role.NONE),
        (("none",), Role.NONE),
        ((), Role.NONE),
    ],
)
def test_the_highest_known_role_counts(roles: tuple[str, ...], expected: Role) -> None:
    assert caller(token(roles)).role is expected


@pytest.mark.parametrize(
    "elsewhere",
    [
        token(project="services"),
        token(project_domain="Other"),
        token(project=None),
        token(project=None, domain={"name": "Default"}),
        token(project=None, system={"all": True}),
    ],
)
def test_roles_count_only_in_the_configured_project_and_domain(elsewhere: dict[str, Any]) -> None:
    assert caller(elsewhere).role is Role.NONE


def test_users_of_other_domains_are_nobody() -> None:
    with pytest.raises(NotAuthorized, match="Other"):
        caller(token(user_domain="Other"))


def test_an_application_credential_with_access_rules_is_refused() -> None:
    with pytest.raises(NotAuthorized, match="access rules"):
        caller(token(application_credential={"access_rules": [{"path": "/"}]}))
    assert caller(token(application_credential={"id": "1"})).role is Role.ADMIN


def test_root_at_the_socket_needs_no_token_and_no_keystone() -> None:
    assert authenticate(CallerAuthenticator(SETTINGS), None, ROOT) == Caller("root", Role.ADMIN)


@pytest.mark.parametrize("peer", [OTHER, None])
def test_everybody_else_needs_a_token(peer: Peer | None) -> None:
    with pytest.raises(NotAuthenticated):
        authenticate(CallerAuthenticator(SETTINGS), None, peer)


@pytest.mark.parametrize("sent", ["", "\x00", "schlüssel", "x" * 10000])
def test_a_sent_token_is_never_overruled_by_the_uid(sent: str) -> None:
    with pytest.raises(NotAuthenticated):
        authenticate(CallerAuthenticator(SETTINGS), sent, ROOT)


def test_without_keystone_a_token_is_neither_right_nor_wrong() -> None:
    nowhere = KeystoneSettings(auth_url="http://127.0.0.1:1/v3", timeout=1)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        authenticate(CallerAuthenticator(nowhere), "gAAAAA", ROOT)
    with pytest.raises(Unavailable, match="auth_url"):
        authenticate(CallerAuthenticator(SETTINGS), "gAAAAA", ROOT)


@pytest.mark.parametrize("path", ["", "/", "/v3", "/v3/"])
def test_keystone_is_found_with_and_without_v3_in_the_url(httpserver: HTTPServer, path: str) -> None:
    httpserver.expect_request("/v3/auth/tokens").respond_with_json({"token": token()})
    authenticator = CallerAuthenticator(KeystoneSettings(auth_url=httpserver.url_for(path)))
    assert authenticate(authenticator, "gAAAAA", None) == Caller("someone", Role.ADMIN, may_administer=True)


def test_a_redirect_is_neither_followed_nor_believed(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/elsewhere").respond_with_json({"token": token()})
    httpserver.expect_request("/v3/auth/tokens").respond_with_json(
        {"token": token()}, 307, {"Location": httpserver.url_for("/elsewhere")}
    )
    authenticator = CallerAuthenticator(KeystoneSettings(auth_url=httpserver.url_for("")))
    with pytest.raises(Unavailable, match="redirects to another URL"):
        authenticate(authenticator, "gAAAAA", None)
    assert [request.path for request, _ in httpserver.log] == ["/v3/auth/tokens"]


def test_what_keystone_said_about_a_token_is_kept_until_it_expires(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/v3/auth/tokens").respond_with_json({"token": token()})
    authenticator = CallerAuthenticator(KeystoneSettings(auth_url=httpserver.url_for("")))
    for sent, requests in (("long", 1), ("long", 1), ("other", 2), ("long", 2)):
        authenticate(authenticator, sent, None)
        assert len(httpserver.log) == requests
    authenticator.forget()
    authenticate(authenticator, "long", None)
    assert len(httpserver.log) == 3
    httpserver.clear()
    httpserver.expect_request("/v3/auth/tokens").respond_with_json(
        {"token": token(expires_at="2020-01-01T00:00:00.000000Z")}
    )
    for requests in (1, 2):
        authenticate(authenticator, "expired", None)
        assert len(httpserver.log) == requests


def test_each_role_includes_those_below() -> None:
    operator = Caller("someone", Role.OPERATOR)
    operator.require(Role.READER)
    operator.require(Role.OPERATOR)
    with pytest.raises(NotAuthorized, match="admin"):
        operator.require(Role.ADMIN)


@pytest.fixture
def parallel_httpserver() -> Iterator[HTTPServer]:
    """Answers requests side by side."""
    with HTTPServer(threaded=True) as server:
        yield server


def test_while_keystone_hangs_neither_root_nor_another_client_waits_behind_one_clients_tokens(
    parallel_httpserver: HTTPServer,
) -> None:
    httpserver = parallel_httpserver
    answered = threading.Event()

    def hang(request: Request) -> Response:
        if request.headers["X-Auth-Token"].startswith("unknown"):
            answered.wait(20)
        return Response(json.dumps({"token": token()}), content_type="application/json")

    httpserver.expect_request("/v3/auth/tokens").respond_with_handler(hang)
    authenticator = CallerAuthenticator(KeystoneSettings(auth_url=httpserver.url_for(""), timeout=30))

    async def story() -> None:
        # more than there are threads for calls
        unknown = [
            asyncio.create_task(authenticator.authenticate(f"unknown{number}", None, "192.0.2.1"))
            for number in range(33)
        ]
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            assert await authenticator.authenticate(None, ROOT) == Caller("root", Role.ADMIN)
            await asyncio.to_thread(lambda: None)
            assert (await authenticator.authenticate("known", None, "192.0.2.2")).name == "someone"
        answered.set()
        assert {caller.name for caller in await asyncio.gather(*unknown)} == {"someone"}

    try:
        asyncio.run(story())
    finally:
        answered.set()
