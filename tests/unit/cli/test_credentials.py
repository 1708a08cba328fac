"""Which credentials are used when several are given: the same for the registry and for the agent."""

from __future__ import annotations

import pytest

from sysreg_cli.cli import access, keystone
from sysreg_cli.cli.invocation import CredentialKind, Invocation
from sysreg_cli.errors import CredentialsMissing

USER = {"OS_USERNAME": "testuser", "OS_PASSWORD": "of-testuser"}
APPLICATION = {"OS_APPLICATION_CREDENTIAL_ID": "1f", "OS_APPLICATION_CREDENTIAL_SECRET": "of-1f"}
TOKEN = {"OS_AUTH_TOKEN": "of-nobody"}
ALL = {**USER, **APPLICATION, **TOKEN}
GIVEN_USER = {"os_username": "admin", "os_password": "of-admin"}


@pytest.mark.parametrize(
    ("environ", "given", "kind", "name"),
    [
        (ALL, {}, CredentialKind.TOKEN, ""),
        ({**USER, **APPLICATION}, {}, CredentialKind.APPLICATION_CREDENTIAL, "1f"),
        (USER, {}, CredentialKind.PASSWORD, "testuser"),
        (ALL, GIVEN_USER, CredentialKind.PASSWORD, "admin"),
        (ALL, {"os_password": "another"}, CredentialKind.PASSWORD, "testuser"),
        (
            {**USER, **APPLICATION, **TOKEN},
            {"os_application_credential_id": "2f"},
            CredentialKind.APPLICATION_CREDENTIAL,
            "2f",
        ),
        ({**USER, **TOKEN}, {"os_auth_token": ""}, CredentialKind.PASSWORD, "testuser"),
        ({}, {}, CredentialKind.PASSWORD, None),
    ],
)
def test_options_go_before_the_environment_and_a_token_before_the_rest(
    environ: dict[str, str], given: dict[str, str], kind: CredentialKind, name: str | None
) -> None:
    def invocation() -> Invocation:
        project = {"OS_AUTH_URL": "http://localhost:1", "OS_PROJECT_NAME": "admin"}
        return Invocation({**environ, **project}, dict(given))

    assert invocation().credential_kind() == kind
    if name is None:
        with pytest.raises(CredentialsMissing):
            access.credentials(invocation())
        with pytest.raises(CredentialsMissing):
            keystone.token(invocation())
        return
    assert access.credentials(invocation()).name == name
    if kind is CredentialKind.TOKEN:
        assert keystone.token(invocation()) == access.credentials(invocation()).token == "of-nobody"
    else:
        assert name in keystone.plugin_arguments(invocation(), kind).values()


def test_the_agent_is_not_asked_with_the_token_of_the_environment_when_a_user_is_given() -> None:
    environ = {**TOKEN, "OS_AUTH_URL": "http://localhost:1"}
    with pytest.raises(CredentialsMissing, match="project"):  # which only a user and password need
        keystone.token(Invocation(environ, dict(GIVEN_USER)))
