"""A Keystone token for a call to the agent; keystoneauth1's session is enough, and is imported only here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sysreg_cli.errors import NotAuthenticated, NotAuthorized, Unavailable
from sysreg_cli.keystone import describe_failure, identity_url, open_session

if TYPE_CHECKING:
    from sysreg_cli.cli.options import Invocation


def token(invocation: Invocation) -> str:
    """The token that the caller gave, or a new one for the application credential or the user and password.

    Raises CredentialsMissing, NotAuthenticated, NotAuthorized, Unavailable.
    """
    kind = invocation.credential_kind()
    if kind == "token":
        return invocation.text("os_auth_token")
    auth_url = identity_url(invocation.required("os_auth_url"))
    # all that is missing is said before the first import of half a second
    arguments = _arguments(invocation, kind)

    from keystoneauth1 import exceptions
    from keystoneauth1.identity import v3

    plugin: Any = v3.Password if kind == "password" else v3.ApplicationCredential
    session = open_session(
        program="system",
        ca_file=invocation.text("os_cacert"),
        timeout=invocation.timeout,
        auth=plugin(auth_url=auth_url, include_catalog=False, **arguments),
    )
    try:
        return str(session.get_token())
    except exceptions.Unauthorized:
        raise NotAuthenticated(
            f"Keystone at {auth_url} refused the credentials of {_who(arguments)}",
            next_step="check the openrc that was sourced",
        ) from None
    except exceptions.Forbidden:
        raise NotAuthorized(f"Keystone at {auth_url} lets {_who(arguments)} have no token") from None
    except exceptions.ClientException as error:
        raise Unavailable(
            f"Keystone at {auth_url} can't be asked: {describe_failure(error)}",
            next_step="root on the controller needs no Keystone: try with sudo",
        ) from None


def _arguments(invocation: Invocation, kind: str) -> dict[str, str]:
    if kind == "application_credential":
        names = ("os_application_credential_id", "os_application_credential_secret")
        return {name.removeprefix("os_"): invocation.required(name) for name in names}
    return {
        "username": invocation.required("os_username"),
        "user_domain_name": invocation.text("os_user_domain_name") or "Default",
        "project_name": invocation.required("os_project_name"),
        "project_domain_name": invocation.text("os_project_domain_name") or "Default",
        "password": invocation.password(),
    }


def _who(arguments: dict[str, str]) -> str:
    return arguments.get("username") or f"application credential {arguments['application_credential_id']}"
