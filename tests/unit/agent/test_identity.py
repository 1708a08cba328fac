"""Who a validated token stands for, and when no token is needed."""

from typing import Any

import pytest

from sysreg_cli.agent.identity import Caller, Identity, Peer, Role, caller_of
from sysreg_cli.errors import NotAuthenticated, NotAuthorized, Unavailable
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
        "roles": [{"name": role} for role in roles],
        **scope,
        **changes,
    }


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
    assert caller_of(token(roles), SETTINGS).role is expected


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
    assert caller_of(elsewhere, SETTINGS).role is Role.NONE


def test_users_of_other_domains_are_nobody() -> None:
    with pytest.raises(NotAuthorized, match="Other"):
        caller_of(token(user_domain="Other"), SETTINGS)


def test_an_application_credential_with_access_rules_is_refused() -> None:
    with pytest.raises(NotAuthorized, match="access rules"):
        caller_of(token(application_credential={"access_rules": [{"path": "/"}]}), SETTINGS)
    assert caller_of(token(application_credential={"id": "1"}), SETTINGS).role is Role.ADMIN


def test_root_at_the_socket_needs_no_token_and_no_keystone() -> None:
    assert Identity(SETTINGS).identify(None, ROOT) == Caller("root", Role.ADMIN)


@pytest.mark.parametrize("peer", [OTHER, None])
def test_everybody_else_needs_a_token(peer: Peer | None) -> None:
    with pytest.raises(NotAuthenticated):
        Identity(SETTINGS).identify(None, peer)


@pytest.mark.parametrize("sent", ["", "\x00", "schlüssel", "x" * 10000])
def test_a_sent_token_is_never_overruled_by_the_uid(sent: str) -> None:
    with pytest.raises(NotAuthenticated):
        Identity(SETTINGS).identify(sent, ROOT)


def test_without_keystone_a_token_is_neither_right_nor_wrong() -> None:
    nowhere = KeystoneSettings(auth_url="http://127.0.0.1:1/v3", timeout=1)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        Identity(nowhere).identify("gAAAAA", ROOT)
    with pytest.raises(Unavailable, match="auth_url"):
        Identity(SETTINGS).identify("gAAAAA", ROOT)


def test_each_role_includes_those_below() -> None:
    operator = Caller("someone", Role.OPERATOR)
    operator.require(Role.READER)
    operator.require(Role.OPERATOR)
    with pytest.raises(NotAuthorized, match="admin"):
        operator.require(Role.ADMIN)
