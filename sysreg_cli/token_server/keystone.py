"""Asking Keystone who somebody is. Blocking: it runs in threads, which share one pool of connections."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import requests
from keystoneauth1 import access, exceptions, session
from keystoneauth1.identity import v3
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ReadTimeoutError

from sysreg_cli.daemon.tls import system_authorities
from sysreg_cli.errors import NotAuthenticated, SettingsError, Unavailable
from sysreg_cli.settings import KeystoneSettings
from sysreg_cli.text import shorten
from sysreg_cli.token_server.credentials import Credentials
from sysreg_cli.tokens.grants import Identity

_ADMIN_ROLE = "admin"
# Seconds after which Keystone is asked again, once; well below the patience of whoever waits.
_SECOND_TRY = 0.5
# Keystone may have got these, and a login that it counts twice can lock the account.
_TOO_SLOW = (exceptions.ConnectTimeout, exceptions.GatewayTimeout)
# Keys of a Keystone token that acts for somebody who gave it less than they may do themselves.
_DELEGATIONS = ("application_credential", "OS-TRUST:trust", "OS-OAUTH1")


@dataclass(frozen=True, slots=True)
class Answer:
    """Who it is, and for how many seconds Keystone stands for it."""

    identity: Identity
    lifetime: float


class Keystone:
    """The Keystone of the controller, for users of one domain."""

    def __init__(self, settings: KeystoneSettings, *, connections: int) -> None:
        """``connections`` is the number of threads that ask at the same time.

        Raises SettingsError if ``auth_url`` is not set.
        """
        if not settings.auth_url:
            raise SettingsError("settings refused", ["section [keystone]: auth_url is missing"])
        url = settings.auth_url
        self._url = url if url.endswith("/v3") else f"{url}/v3"
        self._domain = settings.user_domain
        http = requests.Session()
        # Neither ~/.netrc nor a proxy of the environment has a part in this.
        http.trust_env = False
        for scheme in ("http://", "https://"):
            http.mount(scheme, HTTPAdapter(pool_maxsize=connections))
        self._session = session.Session(
            session=http,
            verify=str(settings.ca_file) if settings.ca_file else system_authorities(),
            timeout=settings.timeout,
            # A redirect could carry a password to another host.
            redirect=False,
            # keystoneauth would take a slow answer for no connection, and send the password again.
            connect_retries=0,
            app_name="sysreg-token-server",
        )

    def authenticate(self, credentials: Credentials) -> Answer:
        """Who the owner of ``credentials`` is, in Keystone's words.

        Raises NotAuthenticated if Keystone refuses them, or its answer names a user of another domain or an
        application credential with access rules; Unavailable if there is no answer to rely on.
        """
        ask: Mapping[str, Callable[[Credentials], access.AccessInfo]] = {
            "password": self._password,
            "application_credential": self._application_credential,
            "token": self._token,
        }
        try:
            try:
                answer = ask[credentials.kind](credentials)
            except _TOO_SLOW:
                raise
            except (exceptions.ConnectFailure, exceptions.HttpServerError) as error:
                if _stopped_in_the_middle(error):
                    raise
                # A connection that Keystone closed while it lay idle, or Keystone stumbles for a moment over
                # its database or behind a proxy: that counts no login.
                time.sleep(_SECOND_TRY)
                answer = ask[credentials.kind](credentials)
            return self._judge(answer, credentials)
        except (exceptions.Unauthorized, exceptions.Forbidden, exceptions.BadRequest):
            raise NotAuthenticated(refusal(credentials)) from None
        except exceptions.NotFound:
            # Keystone's words for an unknown token or application credential; for a password, a wrong URL.
            if credentials.kind != "password":
                raise NotAuthenticated(refusal(credentials)) from None
            raise self._unavailable("it has no v3 API there") from None
        except exceptions.HttpError as error:
            raise self._unavailable(f"it answered {error.http_status}") from None
        except exceptions.SSLError:
            raise self._unavailable("its TLS certificate is not trusted") from None
        except exceptions.ConnectTimeout:
            raise self._unavailable("no answer in time") from None
        except exceptions.ConnectFailure:
            raise self._unavailable("no connection") from None
        except (exceptions.ClientException, requests.RequestException, KeyError, TypeError, ValueError):
            # The message may hold what was sent, so it isn't shown.
            raise self._unavailable("its answer makes no sense") from None

    def _password(self, credentials: Credentials) -> access.AccessInfo:
        return v3.Password(
            self._url,
            username=credentials.name,
            password=credentials.secret,
            user_domain_name=self._domain,
            unscoped=True,
            include_catalog=False,
            reauthenticate=False,
        ).get_access(self._session)

    def _application_credential(self, credentials: Credentials) -> access.AccessInfo:
        return v3.ApplicationCredential(
            self._url,
            application_credential_id=credentials.name,
            application_credential_secret=credentials.secret,
            include_catalog=False,
            reauthenticate=False,
        ).get_access(self._session)

    def _token(self, credentials: Credentials) -> access.AccessInfoV3:
        """The token vouches for itself: Keystone lets its owner validate it."""
        answer = self._session.get(
            f"{self._url}/auth/tokens?nocatalog",
            headers={"X-Auth-Token": credentials.secret, "X-Subject-Token": credentials.secret},
            authenticated=False,
            log=False,
        )
        if answer.status_code != 200:
            raise ValueError("not a token's description")
        return access.AccessInfoV3(auth_token=credentials.secret, body=answer.json())

    def _judge(self, answer: access.AccessInfo, credentials: Credentials) -> Answer:
        token: Mapping[str, Any] = answer._data["token"]
        name, domain = answer.username, answer.user_domain_name
        if not isinstance(name, str) or not name:
            raise ValueError("no user name")
        if domain != self._domain:
            raise NotAuthenticated(f"user {shorten(name)} is not of the domain {shorten(self._domain)}")
        if (token.get("application_credential") or {}).get("access_rules"):
            raise NotAuthenticated(
                f"the application credential of user {shorten(name)} has access rules",
                next_step="use one without access rules",
            )
        delegated = credentials.kind == "application_credential" or any(key in token for key in _DELEGATIONS)
        may_administer = not delegated or _ADMIN_ROLE in (answer.role_names or ())
        if answer.expires is None:
            raise ValueError("no expiry")
        return Answer(Identity(name, may_administer), answer.expires.timestamp() - time.time())

    def _unavailable(self, why: str) -> Unavailable:
        return Unavailable(f"Keystone at {self._url} can't be asked: {why}", next_step="try again in a while")


def _stopped_in_the_middle(error: Exception) -> bool:
    """Whether it is the timeout of an answer that had begun, which requests calls a failed connection."""
    cause = error.__context__
    return isinstance(cause, requests.ConnectionError) and any(
        isinstance(reason, ReadTimeoutError) for reason in cause.args
    )


def refusal(credentials: Credentials) -> str:
    """What is said of credentials that Keystone refused."""
    if credentials.kind == "token":
        return "Keystone refused the token"
    what = "user" if credentials.kind == "password" else "application credential"
    return f"Keystone refused {what} {shorten(credentials.name)} or the password"
