"""What every part needs of Keystone."""

from typing import Any

import pytest

from sysreg_cli.keystone import TokenOwner, identity_url


@pytest.mark.parametrize("url", ["http://k:5000", "http://k:5000/", "http://k:5000/v3", "http://k:5000/v3/"])
def test_the_url_of_the_api_is_found_with_and_without_v3(url: str) -> None:
    assert identity_url(url) == "http://k:5000/v3"


def token(**changes: Any) -> dict[str, Any]:
    user = {"id": "1", "name": "admin", "domain": {"id": "default", "name": "Default"}}
    return {"user": user, **changes}


def test_the_owner_and_the_rights_of_a_token_are_read() -> None:
    project = {"name": "admin", "domain": {"name": "Default"}}
    owner = TokenOwner.of(token(project=project, roles=[{"name": "reader"}]))
    assert (owner.name, owner.domain, owner.project) == ("admin", "Default", ("admin", "Default"))
    assert owner.roles == {"reader"}
    assert owner.may_administer
    assert not owner.has_access_rules


@pytest.mark.parametrize("key", ["application_credential", "OS-TRUST:trust", "OS-OAUTH1"])
def test_a_delegation_administers_only_with_the_role(key: str) -> None:
    assert not TokenOwner.of(token(**{key: {"id": "1"}}, roles=[{"name": "member"}])).may_administer
    assert TokenOwner.of(token(**{key: {"id": "1"}}, roles=[{"name": "admin"}])).may_administer


def test_access_rules_are_seen() -> None:
    assert TokenOwner.of(token(application_credential={"access_rules": [{"path": "/"}]})).has_access_rules


@pytest.mark.parametrize("document", [{}, {"user": None}, {"user": {"name": "", "domain": {"name": "x"}}}])
def test_what_is_no_token_is_an_error(document: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        TokenOwner.of(document)
