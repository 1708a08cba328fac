"""Who a validated token stands for, and when no token is needed."""

from typing import Any

import pytest
from pytest_httpserver import HTTPServer

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
    assert CallerAuthenticator(SETTINGS).authenticate(None, ROOT) == Caller("root", Role.ADMIN)


@pytest.mark.parametrize("peer", [OTHER, None])
def test_everybody_else_needs_a_token(peer: Peer | None) -> None:
    with pytest.raises(NotAuthenticated):
        CallerAuthenticator(SETTINGS).authenticate(None, peer)


@pytest.mark.parametrize("sent", ["", "\x00", "schlüssel", "x" * 10000])
def test_a_sent_token_is_never_overruled_by_the_uid(sent: str) -> None:
    with pytest.raises(NotAuthenticated):
        CallerAuthenticator(SETTINGS).authenticate(sent, ROOT)


def test_without_keystone_a_token_is_neither_right_nor_wrong() -> None:
    nowhere = KeystoneSettings(auth_url="http://127.0.0.1:1/v3", timeout=1)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        CallerAuthenticator(nowhere).authenticate("gAAAAA", ROOT)
    with pytest.raises(Unavailable, match="auth_url"):
        CallerAuthenticator(SETTINGS).authenticate("gAAAAA", ROOT)


@pytest.mark.parametrize("path", ["", "/", "/v3", "/v3/"])
def test_keystone_is_found_with_and_without_v3_in_the_url(httpserver: HTTPServer, path: str) -> None:
    httpserver.expect_request("/v3/auth/tokens").respond_with_json({"token": token()})
    authenticator = CallerAuthenticator(KeystoneSettings(auth_url=httpserver.url_for(path)))
    assert authenticator.authenticate("gAAAAA", None) == Caller("someone", Role.ADMIN, may_administer=True)


def test_a_redirect_is_neither_followed_nor_believed(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/elsewhere").respond_with_json({"token": token()})
    httpserver.expect_request("/v3/auth/tokens").respond_with_json(
        {"token": token()}, 307, {"Location": httpserver.url_for("/elsewhere")}
    )
    authenticator = CallerAuthenticator(KeystoneSettings(auth_url=httpserver.url_for("")))
    with pytest.raises(Unavailable, match="redirects to another URL"):
        authenticator.authenticate("gAAAAA", None)
    assert [request.path for request, _ in httpserver.log] == ["/v3/auth/tokens"]


def test_what_keystone_said_about_a_token_is_kept_until_it_expires(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/v3/auth/tokens").respond_with_json({"token": token()})
    authenticator = CallerAuthenticator(KeystoneSettings(auth_url=httpserver.url_for("")))
    for sent, requests in (("long", 1), ("long", 1), ("other", 2), ("long", 2)):
        authenticator.authenticate(sent, None)
        assert len(httpserver.log) == requests
    authenticator.forget()
    authenticator.authenticate("long", None)
    assert len(httpserver.log) == 3
    httpserver.clear()
    httpserver.expect_request("/v3/auth/tokens").respond_with_json(
        {"token": token(expires_at="2020-01-01T00:00:00.000000Z")}
    )
    for requests in (1, 2):
        authenticator.authenticate("expired", None)
        assert len(httpserver.log) == requests


def test_each_role_includes_those_below() -> None:
    operator = Caller("someone", Role.OPERATOR)
    operator.require(Role.READER)
    operator.require(Role.OPERATOR)
    with pytest.raises(NotAuthorized, match="admin"):
        operator.require(Role.ADMIN)
