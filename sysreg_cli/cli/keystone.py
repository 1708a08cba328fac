"""A Keystone token for a call to the agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sysreg_cli.addresses import auth_url_problem
from sysreg_cli.cli import global_options
from sysreg_cli.cli.invocation import CredentialKind
from sysreg_cli.errors import NotAuthenticated, NotAuthorized, Unavailable, UsageError
from sysreg_cli.keystone import NOT_A_TOKEN, describe_failure, identity_url, open_session
from sysreg_cli.text import shorten

if TYPE_CHECKING:
    from sysreg_cli.cli.invocation import Invocation


def token(invocation: Invocation) -> str:
    """Return the token that the caller gave, or a new one for the other credentials.

    Raises CredentialsMissing, UsageError, NotAuthenticated, NotAuthorized, Unavailable.
    """
    kind = invocation.credential_kind()
    if kind is CredentialKind.TOKEN:
        return invocation.token()
    # everything that is missing is an error before the first import of a third of a second
    url = identity_url(require_auth_url(invocation.required(global_options.OS_AUTH_URL)))
    arguments = plugin_arguments(invocation, kind)

    from keystoneauth1 import exceptions
    from keystoneauth1.identity import v3

    plugin: Any = v3.Password if kind is CredentialKind.PASSWORD else v3.ApplicationCredential
    session = open_session(
        program="system",
        ca_file=invocation.text(global_options.OS_CACERT),
        timeout=invocation.timeout,
        auth=plugin(auth_url=url, include_catalog=False, **arguments),
    )
    owner = arguments.get("username") or f"application credential {arguments['application_credential_id']}"
    try:
        return str(session.get_token())
    except exceptions.Unauthorized:
        raise NotAuthenticated(
            f"Keystone at {url} refused the credentials of {owner}",
            next_step="check the openrc that was sourced",
        ) from None
    except exceptions.Forbidden:
        raise NotAuthorized(f"Keystone at {url} does not give {owner} a token") from None
    except (exceptions.ClientException, *NOT_A_TOKEN) as error:
        raise Unavailable(
            f"Keystone at {url} can't be asked: {describe_failure(error)}",
            next_step="root on the controller needs no Keystone: try with sudo",
        ) from None


def require_auth_url(url: str) -> str:
    """Return ``url``, Keystone's URL with or without ``/v3``. Raises UsageError that says what is wrong."""
    if problem := auth_url_problem(url):
        raise UsageError(f"OS_AUTH_URL (--os-auth-url): {shorten(url)} {problem}")
    return url


def plugin_arguments(invocation: Invocation, kind: CredentialKind) -> dict[str, str]:
    """Return the arguments of keystoneauth's plugin for credentials of this kind.

    Raises CredentialsMissing. A terminal is asked for the password last, if nothing else is missing.
    """
    options = global_options
    if kind is CredentialKind.APPLICATION_CREDENTIAL:
        return {
            "application_credential_id": invocation.required(options.OS_APPLICATION_CREDENTIAL_ID),
            "application_credential_secret": invocation.required(options.OS_APPLICATION_CREDENTIAL_SECRET),
        }
    return {
        "username": invocation.required(options.OS_USERNAME),
        "user_domain_name": invocation.text(options.OS_USER_DOMAIN_NAME) or "Default",
        "project_name": invocation.required(options.OS_PROJECT_NAME),
        "project_domain_name": invocation.text(options.OS_PROJECT_DOMAIN_NAME) or "Default",
        "password": invocation.password(),
    }
