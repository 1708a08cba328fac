"""What every part needs of Keystone: its URL, safe sessions, and what a token says about its owner.

Only this module opens sessions with Keystone. Importing it costs little; ``open_session`` imports
keystoneauth1, which takes a third of a second.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sysreg_cli.text import shorten

if TYPE_CHECKING:
    from keystoneauth1.session import Session
    from requests import Response

    from sysreg_cli.settings import KeystoneSettings

_ADMIN_ROLE = "admin"
# Keys of a token that acts for a user with fewer rights than the user has.
_DELEGATIONS = ("application_credential", "OS-TRUST:trust", "OS-OAUTH1")
#: the exceptions that reading a token raises if the response holds none
NOT_A_TOKEN = (AttributeError, KeyError, TypeError, ValueError)


def identity_url(auth_url: str) -> str:
    """Return the URL of Keystone's API v3. OpenStack users write ``auth_url`` with or without ``/v3``."""
    url = auth_url.rstrip("/")
    return url if url.endswith("/v3") else f"{url}/v3"


def open_session(
    *, program: str, ca_file: str | Path | None, timeout: float, connections: int = 1, auth: Any = None
) -> Session:
    """Open a session with Keystone. ``timeout`` is in seconds; ``connections`` is the size of the pool.

    ``program`` is the name in the header User-Agent.

    A session sends secrets. Therefore it treats a redirect as an error, asks no proxy, reads no ~/.netrc, and
    sends no request a second time by itself: Keystone counts each failed login.
    """
    import requests
    from keystoneauth1 import exceptions
    from keystoneauth1.session import Session
    from requests.adapters import HTTPAdapter

    def refuse_redirect(response: Response, **_options: Any) -> None:
        # keystoneauth returns a redirect that it may not follow like a success, and callers believe its body
        if 300 <= response.status_code < 400:
            raise exceptions.HttpError(http_status=response.status_code)

    http = requests.Session()
    http.trust_env = False
    http.hooks["response"].append(refuse_redirect)
    for scheme in ("http://", "https://"):
        http.mount(scheme, HTTPAdapter(pool_maxsize=connections))
    return Session(
        auth=auth,
        session=http,
        verify=str(ca_file) if ca_file else system_authorities(),
        timeout=timeout,
        app_name=program,
        redirect=False,
        # keystoneauth treats a slow response as a failed connection, and would send the password again
        connect_retries=0,
    )


def describe_failure(error: Exception) -> str:
    """Say in a few words why a request to Keystone failed.

    ``error`` is what the session raised, or what parsing the response raised. Its own text may quote secrets.
    """
    from keystoneauth1 import exceptions

    match error:
        case exceptions.NotFound():
            return "it has no v3 API there"
        case exceptions.HttpError() if 300 <= error.http_status < 400:
            return "it redirects to another URL, which is not followed"
        case exceptions.HttpError():
            return f"it answered {error.http_status}"
        case exceptions.SSLError():
            return "its TLS certificate is not trusted"
        case exceptions.ConnectTimeout():
            return "no response in time"
        case exceptions.ConnectFailure():
            return "no connection"
    return "its response makes no sense"


def system_authorities() -> str | bool:
    """Return the CAs that this host trusts, in the form that ``requests`` takes as ``verify``.

    The default of ``requests`` is the list of the package certifi, which lacks every CA that was installed
    with ``certificate-install -m ssl_ca``. OpenSSL reads a directory of CAs at each handshake, so a new CA
    needs no restart.
    """
    paths = ssl.get_default_verify_paths()
    if paths.openssl_cafile_env in os.environ and paths.cafile:
        return paths.cafile
    return paths.capath or paths.cafile or True


@dataclass(frozen=True, slots=True)
class TokenOwner:
    """The user for whom Keystone issued a token, and the token's rights. Names are Keystone's spelling."""

    name: str
    domain: str
    #: name and domain of the project that the roles count in; None for a token without a project
    project: tuple[str, str] | None
    roles: frozenset[str]
    #: whether the token is an application credential, a trust or an OAuth token of the user
    delegated: bool
    #: whether an application credential limits which calls the token may be used for
    has_access_rules: bool
    #: seconds of the wall clock
    expires_at: float

    def roles_in(self, settings: KeystoneSettings) -> frozenset[str]:
        """Return the roles that count, in lower case: those in the configured project and domain."""
        if self.project != (settings.admin_project, settings.user_domain):
            return frozenset()
        return frozenset(role.lower() for role in self.roles)

    def may_administer(self, settings: KeystoneSettings) -> bool:
        """Whether an administrator's token has the administrator's rights.

        A delegation has them only with the role admin in the configured project.
        """
        return not self.delegated or _ADMIN_ROLE in self.roles_in(settings)

    def why_refused(self, settings: KeystoneSettings) -> str:
        """Return why sysreg refuses the token, "" if it accepts it."""
        name, domain = shorten(self.name), settings.user_domain
        if self.domain != domain:
            return f"user {name} is not of the domain {shorten(domain)}, but of {shorten(self.domain)}"
        if self.has_access_rules:
            return f"the application credential of user {name} has access rules; use one without"
        return ""

    @classmethod
    def of(cls, token: Mapping[str, Any]) -> TokenOwner:
        """Read the ``token`` object of Keystone's API v3.

        Raises one of NOT_A_TOKEN if it isn't one.
        """
        user, project = token["user"], token.get("project")
        name, domain = user["name"], user["domain"]["name"]
        if not (isinstance(name, str) and name and isinstance(domain, str)):
            raise ValueError("the token has no user name")
        return cls(
            name=name,
            domain=domain,
            project=(project["name"], project["domain"]["name"]) if project else None,
            roles=frozenset(role["name"] for role in token.get("roles") or ()),
            delegated=any(key in token for key in _DELEGATIONS)
            or "application_credential" in token.get("methods", ()),
            has_access_rules=bool((token.get("application_credential") or {}).get("access_rules")),
            expires_at=datetime.fromisoformat(token["expires_at"]).timestamp(),
        )
