"""The table in docs/contracts.rst, "Tokens": cell by cell, and as properties of any users and scopes."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sysreg_cli.errors import UsageError
from sysreg_cli.reference import is_component
from sysreg_cli.settings import TokenServerSettings
from sysreg_cli.tokens.grants import Grants, Identity
from sysreg_cli.tokens.scope import parse_scopes

SETTINGS = TokenServerSettings(
    administrators=("admin", "sysinv"),
    reserved_users=("mtce",),
    public_images=("rabbitmq", "tools/busybox"),
)
GRANTS = Grants(SETTINGS)
EVERYTHING = {"pull", "push", "delete", "*"}


def granted(user: str | Identity, *scopes: str) -> list[str]:
    identity = Identity(user) if isinstance(user, str) else user
    return [str(access) for access in GRANTS.allowed(identity, parse_scopes(scopes))]


@pytest.mark.parametrize("name", ["admin", "sysinv"])
def test_administrators_may_do_everything(name: str) -> None:
    asked = ["repository:any/thing:pull,push,delete", "repository:single:*", "registry:catalog:*"]
    assert granted(name, *asked) == asked


def test_a_user_owns_what_is_below_their_name() -> None:
    asked = ["repository:testuser/a:push,pull", "repository:testuser/a/b/c:delete", "repository:testuser/x:*"]
    assert granted("testuser", *asked) == asked


@pytest.mark.parametrize("name", ["testuser", "testuser2/a", "testuse/a", "other/testuser/a", "testuser-x/a"])
def test_a_user_owns_nothing_else(name: str) -> None:
    assert granted("testuser", f"repository:{name}:pull,push,delete", f"repository:{name}:*") == []


def test_everybody_pulls_public_images_and_changes_none() -> None:
    for name in ("public/a", "public/a/b", "rabbitmq", "tools/busybox"):
        for user in ("testuser", "mtce", "public", "tools"):
            assert granted(user, f"repository:{name}:push,pull,delete") == [f"repository:{name}:pull"]
            assert granted(user, f"repository:{name}:*") == [f"repository:{name}:pull"]
    assert granted("testuser", "repository:public:pull", "repository:tools/other:pull") == []


@pytest.mark.parametrize("user", ["mtce", "public", "rabbitmq", "tools"])
def test_reserved_users_and_namesakes_of_public_images_own_nothing(user: str) -> None:
    assert GRANTS.why_no_login(Identity(user)) == ""
    public = {"pull"} if user == "public" else set()
    assert GRANTS.actions(Identity(user), f"{user}/mine") == public


@pytest.mark.parametrize("user", ["docker.io", "k8s.gcr.io", "localhost", "library", "192.0.2.1", "a.b"])
def test_a_user_named_like_a_registry_owns_its_mirror_only_if_configured(user: str) -> None:
    assert GRANTS.why_no_login(Identity(user)) == ""
    assert granted(user, f"repository:{user}/image:pull,push,delete", f"repository:{user}/image:*") == []
    owner = Grants(TokenServerSettings(registry_like_users=(user,)))
    assert owner.actions(Identity(user), f"{user}/image") == EVERYTHING
    reserved = Grants(TokenServerSettings(registry_like_users=(user,), reserved_users=(user,)))
    assert reserved.actions(Identity(user), f"{user}/image") == set()


@pytest.mark.parametrize(
    "user", ["Upper", "a b", "a/b", "", "..", "-a", "a-", "\N{SNOWMAN}", "admin\n", "Admin"]
)
def test_a_name_that_is_no_part_of_an_image_name_may_not_log_in(user: str) -> None:
    why = GRANTS.why_no_login(Identity(user))
    assert "can't use the registry" in why
    assert why.isprintable()
    for repository in ("public/a", "a/b", "admin/a", "upper/a"):
        assert GRANTS.actions(Identity(user), repository) == set()


def test_a_delegation_without_the_role_admin_is_an_ordinary_user() -> None:
    weak = Identity("admin", may_administer=False)
    assert granted(weak, "repository:any/thing:pull", "registry:catalog:*") == []
    assert granted(weak, "repository:admin/own:push") == ["repository:admin/own:push"]


@pytest.mark.parametrize(
    "scope",
    [
        "registry:catalog:*",
        "registry:other:*",
        "repository:Upper/Case:pull",
        "repository:host:5000/testuser/a:pull",
        "repository:testuser/../other/a:pull",
        "repository:testuser//a:pull",
        "repository:testuser/:pull",
        "other:testuser/a:pull",
        "repository:testuser/a:fly",
    ],
)
def test_odd_scopes_give_an_ordinary_user_nothing(scope: str) -> None:
    assert granted("testuser", scope) == []


def test_only_star_is_an_action_of_the_catalog_and_only_actions_we_know_are_granted() -> None:
    assert granted("admin", "registry:catalog:pull") == []
    assert granted("admin", "repository:a:fly,pull") == ["repository:a:pull"]


# Properties

words = st.sampled_from(
    [
        *("testuser", "testuser2", "public", "mtce", "admin", "sysinv", "rabbitmq", "tools", "busybox", "a"),
        *("docker.io", "library", ".", "..", "A", "a-b", "a__b", "%2e", "host:5000"),
    ]
) | st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=8)
names = st.lists(words, min_size=0, max_size=4).map("/".join)
action_lists = st.lists(st.sampled_from(["pull", "push", "delete", "*", "fly"]), min_size=1, max_size=4)
kinds = st.sampled_from(["repository", "repository(plugin)", "registry", "other"])
scopes = st.builds(
    lambda kind, name, actions: f"{kind}:{name}:{','.join(actions)}", kinds, names, action_lists
)


def table_allows(user: str, may_administer: bool, repository: str) -> set[str]:
    """The table once more, told by somebody else: an oracle that shares no code with the grants."""
    if user in ("admin", "sysinv") and may_administer:
        return EVERYTHING
    reserved = user in ("mtce", "public", "rabbitmq", "tools")
    if not reserved and not is_component(user):
        return set()
    like_a_registry = "." in user or user in ("library", "localhost")
    if not reserved and not like_a_registry and repository.startswith(user + "/"):
        return EVERYTHING
    if repository.startswith("public/") or repository in ("rabbitmq", "tools/busybox"):
        return {"pull"}
    return set()


@given(words, st.booleans(), st.lists(scopes, max_size=6))
@example("testuser", True, ["repository:testuser2/a:*"])
@example("public", True, ["repository:public/a:push"])
@example("docker.io", True, ["repository:docker.io/a:push"])
def test_no_token_ever_allows_anything_outside_the_table(
    user: str, may_administer: bool, texts: list[str]
) -> None:
    try:
        asked = parse_scopes(texts)
    except UsageError:
        return
    identity = Identity(user, may_administer)
    requested = {(scope.type, scope.name): set(scope.actions) for scope in asked}
    for access in GRANTS.allowed(identity, asked):
        if access.type == "registry":
            assert (access.name, access.actions) == ("catalog", ("*",))
            assert user in ("admin", "sysinv")
            assert may_administer
            continue
        assert access.type == "repository"
        assert access.actions
        assert set(access.actions) <= table_allows(user, may_administer, access.name)
        wanted = requested[access.type, access.name]
        assert set(access.actions) <= wanted or "*" in wanted


@given(words, names, action_lists)
def test_what_the_table_allows_is_granted(user: str, name: str, actions: list[str]) -> None:
    try:
        asked = parse_scopes([f"repository:{name}:{','.join(actions)}"])
    except UsageError:
        return
    if not all(is_component(part) for part in name.split("/")):
        return
    allowed = table_allows(user, True, name)
    expected = allowed if "*" in actions and "*" not in allowed else allowed & set(actions)
    got = GRANTS.allowed(Identity(user), asked)
    assert {action for access in got for action in access.actions} == expected
