"""Asks Keystone whose credentials these are.

The calls block. They run in threads, which share one pool of connections.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests
from keystoneauth1 import exceptions
from keystoneauth1.identity import v3
from urllib3.exceptions import ReadTimeoutError

from sysreg_cli.errors import NotAuthenticated, SettingsError, Unavailable
from sysreg_cli.keystone import NOT_A_TOKEN, TokenOwner, describe_failure, identity_url, open_session
from sysreg_cli.settings import KeystoneSettings
from sysreg_cli.text import shorten
from sysreg_cli.token_server.credentials import Credentials
from sysreg_cli.tokens.grants import Identity

_REFUSALS = (exceptions.Unauthorized, exceptions.Forbidden, exceptions.BadRequest)


@dataclass(frozen=True, slots=True)
class Authentication:
    """The user whom Keystone recognised, and for how many seconds that may be relied on."""

    identity: Identity
    lifetime: float


class Keystone:
    """The Keystone of the controller, for users of one domain."""

    def __init__(self, settings: KeystoneSettings, *, connections: int, retry_pause: float = 0.5) -> None:
        """``connections`` is the number of threads that send requests at the same time.

        ``retry_pause`` is the number of seconds before a request is repeated; it is well below the time that
        clients wait. Raises SettingsError if ``auth_url`` is not set.
        """
        if not settings.auth_url:
            raise SettingsError("settings refused", ["section [keystone]: auth_url is missing"])
        self._url = identity_url(settings.auth_url)
        self._settings = settings
        self._retry_pause = retry_pause
        self._session = open_session(
            program="sysreg-token-server",
            ca_file=settings.ca_file,
            timeout=settings.timeout,
            connections=connections,
        )

    def authenticate(self, credentials: Credentials) -> Authentication:
        """Find the owner of ``credentials``.

        Raises NotAuthenticated if Keystone refuses them, or if they belong to a user of another domain or are
        an application credential with access rules; Unavailable if Keystone gives no usable response.
        """
        # Keystone answers 404 for an unknown token or application credential; for a password the URL is wrong
        refusals = _REFUSALS if credentials.kind == "password" else (*_REFUSALS, exceptions.NotFound)
        try:
            owner = TokenOwner.of(self._request(credentials))
        except refusals:
            raise NotAuthenticated(refusal(credentials)) from None
        except (exceptions.ClientException, requests.RequestException, *NOT_A_TOKEN) as error:
            raise Unavailable(
                f"Keystone at {self._url} can't be asked: {describe_failure(error)}",
                next_step="try again in a while",
            ) from None
        if why := owner.why_refused(self._settings):
            raise NotAuthenticated(why)
        identity = Identity(owner.name, owner.may_administer(self._settings))
        return Authentication(identity, owner.expires_at - time.time())

    def _request(self, credentials: Credentials) -> Mapping[str, Any]:
        """Return Keystone's ``token`` object for ``credentials``. Tries a second time if that is safe."""
        try:
            return self._request_once(credentials)
        except (exceptions.ConnectFailure, exceptions.HttpServerError) as error:
            if _may_be_counted(error):
                raise
            # Keystone closed an idle connection, or failed for a moment.
            time.sleep(self._retry_pause)
            return self._request_once(credentials)

    def _request_once(self, credentials: Credentials) -> Mapping[str, Any]:
        if credentials.kind == "token":
            return self._validate(credentials.secret)
        plugin: v3.Password | v3.ApplicationCredential
        if credentials.kind == "password":
            plugin = v3.Password(
                self._url,
                username=credentials.name,
                password=credentials.secret,
                user_domain_name=self._settings.user_domain,
                unscoped=True,
                include_catalog=False,
                reauthenticate=False,
            )
        else:
            plugin = v3.ApplicationCredential(
                self._url,
                application_credential_id=credentials.name,
                application_credential_secret=credentials.secret,
                include_catalog=False,
                reauthenticate=False,
            )
        token: Mapping[str, Any] = plugin.get_access(self._session)._data["token"]
        return token

    def _validate(self, token: str) -> Mapping[str, Any]:
        """Let the token validate itself, as Keystone's policy allows to each owner of a token."""
        response = self._session.get(
            f"{self._url}/auth/tokens?nocatalog",
            headers={"X-Auth-Token": token, "X-Subject-Token": token},
            authenticated=False,
            log=False,
        )
        if response.status_code != 200:
            raise ValueError("not the description of a token")
        described: Mapping[str, Any] = response.json()["token"]
        return described


def refusal(credentials: Credentials) -> str:
    """Return the message for credentials that Keystone refused."""
    if credentials.kind == "token":
        return "Keystone refused the token"
    what = "user" if credentials.kind == "password" else "application credential"
    return f"Keystone refused {what} {shorten(credentials.name)} or the password"


def _may_be_counted(error: Exception) -> bool:
    """Whether Keystone may have got the request: a wrong login that it counts twice can lock the account."""
    if isinstance(error, exceptions.ConnectTimeout | exceptions.GatewayTimeout):
        return True
    # requests reports a timeout in the middle of a response as a failed connection
    cause = error.__context__
    return isinstance(cause, requests.ConnectionError) and any(
        isinstance(reason, ReadTimeoutError) for reason in cause.args
    )
