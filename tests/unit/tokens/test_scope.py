"""Scopes: what clients really send, what nobody should, and that nothing is too big."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysreg_cli.errors import UsageError
from sysreg_cli.tokens.access import Access
from sysreg_cli.tokens.scope import MAX_SCOPES, parse_scopes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("repository:a/b:pull", Access("repository", "a/b", ("pull",))),
        ("repository:a/b:push,pull", Access("repository", "a/b", ("push", "pull"))),
        ("repository(plugin):a/b:pull", Access("repository", "a/b", ("pull",))),
        ("registry:catalog:*", Access("registry", "catalog", ("*",))),
        ("repository:host:5000/a:pull", Access("repository", "host:5000/a", ("pull",))),
        ("repository:a/b:", Access("repository", "a/b", ())),
        ("repository:a/b:pull,", Access("repository", "a/b", ("pull",))),
        ("repository:a/b:,push,,pull", Access("repository", "a/b", ("push", "pull"))),
    ],
)
def test_one_scope(text: str, expected: Access) -> None:
    assert parse_scopes([text]) == (expected,)


def test_scopes_come_in_several_parameters_or_in_one() -> None:
    apart = parse_scopes(["repository:a:pull", "repository:b:pull"])
    assert apart == parse_scopes(["repository:a:pull repository:b:pull"])
    assert [scope.name for scope in apart] == ["a", "b"]


def test_the_same_resource_twice_is_one_with_all_actions() -> None:
    assert parse_scopes(["repository:a:pull", "repository:a:pull,push"]) == (
        Access("repository", "a", ("pull", "push")),
    )


@pytest.mark.parametrize("nothing", [[], [""], ["  "]])
def test_no_scope_is_fine(nothing: list[str]) -> None:
    assert parse_scopes(nothing) == ()


@pytest.mark.parametrize(
    "text",
    [
        "repository",
        "repository:a",
        "repository::pull",
        "repository:a:PULL",
        ":a:pull",
        "repository(:a:pull",
        "repository():a:pull",
        "repository:a\0b:pull",
        "repository:\N{SNOWMAN}:pull",
        "repository:a:pull\n",
        "repository:" + "a" * 2000 + ":pull",
        "repository:a:" + "pull," * 300 + "pull",
    ],
)
def test_what_is_no_scope_is_refused_in_one_short_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_scopes([text])
    assert len(str(caught.value)) < 250
    assert str(caught.value).isprintable()


def test_thousands_of_scopes_are_refused() -> None:
    many = [f"repository:a{number}:pull" for number in range(MAX_SCOPES + 1)]
    assert len(parse_scopes(many[:-1])) == MAX_SCOPES
    with pytest.raises(UsageError, match="more than 500 scopes"):
        parse_scopes([" ".join(many)])


@given(st.lists(st.text(max_size=60), max_size=5))
def test_any_text_is_parsed_or_refused(texts: list[str]) -> None:
    try:
        scopes = parse_scopes(texts)
    except UsageError:
        return
    assert all(scope.type and scope.name and all(scope.actions) for scope in scopes)


TYPES = st.from_regex(r"[a-z0-9]{1,16}(\([a-z0-9]{1,16}\))?", fullmatch=True)
COMPONENTS = st.from_regex(r"[a-z0-9]{1,9}([_.-][a-z0-9]{1,9})?", fullmatch=True)
HOSTS = st.from_regex(r"([A-Za-z0-9]{1,9}\.)?[A-Za-z0-9]{1,9}(:[0-9]{1,5})?/", fullmatch=True) | st.just("")
ACTIONS = st.lists(st.from_regex(r"[a-z]{0,40}", fullmatch=True) | st.just("*"), min_size=1, max_size=6)


@given(TYPES, HOSTS, st.lists(COMPONENTS, min_size=1, max_size=4), ACTIONS)
def test_every_scope_of_the_specification_is_taken(
    kind: str, host: str, components: list[str], actions: list[str]
) -> None:
    name = host + "/".join(components)
    (scope,) = parse_scopes([f"{kind}:{name}:{','.join(actions)}"])
    assert (scope.type, scope.name) == (kind.partition("(")[0], name)
    assert scope.actions == tuple(dict.fromkeys(filter(None, actions)))
