"""What every part needs of Keystone."""

import ast
from pathlib import Path
from typing import Any

import pytest

from sysreg_cli import keystone
from sysreg_cli.keystone import NOT_A_TOKEN, TokenOwner, identity_url
from sysreg_cli.settings import KeystoneSettings

SETTINGS = KeystoneSettings()


@pytest.mark.parametrize("url", ["http://k:5000", "http://k:5000/", "http://k:5000/v3", "http://k:5000/v3/"])
def test_the_url_of_the_api_is_found_with_and_without_v3(url: str) -> None:
    assert identity_url(url) == "http://k:5000/v3"


def token(**changes: Any) -> dict[str, Any]:
    user = {"id": "1", "name": "admin", "domain": {"id": "default", "name": "Default"}}
    return {"user": user, "expires_at": "1970-01-01T00:01:00.000000Z", **changes}


def test_the_owner_and_the_rights_of_a_token_are_read() -> None:
    project = {"name": "admin", "domain": {"name": "Default"}}
    owner = TokenOwner.of(token(project=project, roles=[{"name": "reader"}]))
    assert (owner.name, owner.domain, owner.project) == ("admin", "Default", ("admin", "Default"))
    assert owner.roles == {"reader"}
    assert owner.may_administer(SETTINGS)
    assert owner.expires_at == 60
    assert not owner.has_access_rules


@pytest.mark.parametrize("key", ["application_credential", "OS-TRUST:trust", "OS-OAUTH1"])
def test_a_delegation_administers_only_with_the_role(key: str) -> None:
    def may_administer(role: str, project: str = "admin", domain: str = "Default") -> bool:
        scope = {"name": project, "domain": {"name": domain}}
        owner = TokenOwner.of(token(**{key: {"id": "1"}}, roles=[{"name": role}], project=scope))
        return owner.may_administer(SETTINGS)

    assert may_administer("admin")
    assert not may_administer("member")
    assert not may_administer("admin", project="another")
    assert not may_administer("admin", domain="another")


def test_the_method_of_a_login_names_an_application_credential_too() -> None:
    assert TokenOwner.of(token(methods=["application_credential"])).delegated
    assert not TokenOwner.of(token(methods=["password"])).delegated


def test_tokens_of_other_domains_and_with_access_rules_are_refused() -> None:
    restricted = TokenOwner.of(token(application_credential={"access_rules": [{"path": "/"}]}))
    assert "has access rules" in restricted.why_refused(SETTINGS)
    other = KeystoneSettings(user_domain="Other")
    assert "is not of the domain 'Other'" in TokenOwner.of(token()).why_refused(other)
    assert TokenOwner.of(token(application_credential={"id": "1"})).why_refused(SETTINGS) == ""


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"user": None},
        {"user": []},
        {"user": {"name": "", "domain": {"name": "x"}}},
        token(expires_at=None),
        token(expires_at="soon"),
        token(roles=["admin"]),
        token(application_credential="x"),
    ],
)
def test_what_is_no_token_is_an_error(document: dict[str, Any]) -> None:
    with pytest.raises(NOT_A_TOKEN):
        TokenOwner.of(document)


def sessions_in(file: Path) -> set[str]:
    """The ways in which a module could send a request of its own to Keystone."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute):
            found.add(ast.unparse(node))
    session = ("Session", "session", "request", "get", "post", "put", "patch", "delete", "head")
    return found & {
        *(f"requests.{name}" for name in session),
        *(f"requests.{name}" for name in ("sessions.Session", "api.get", "api.post")),
        *(f"keystoneauth1.{name}" for name in ("session", "adapter", "session.Session", "adapter.Adapter")),
    }


def test_only_this_module_opens_sessions_with_keystone() -> None:
    product = Path(keystone.__file__).parent
    found = {file.relative_to(product).as_posix(): sessions_in(file) for file in product.rglob("*.py")}
    assert found.pop("keystone.py") == {"requests.Session", "keystoneauth1.session.Session"}
    assert {file: names for file, names in found.items() if names} == {}
