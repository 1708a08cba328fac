"""Who calls the agent: a Keystone token, or root at the other end of the unix socket.

A token that is sent decides, whoever sends it. Roles count only in the configured project and domain, and
users of other domains are nobody. Keystone lets every token validate itself, so the agent needs no account of
its own there (Keystone policy identity:validate_token, rule token_subject).
"""

from __future__ import annotations

import enum
import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sysreg_cli.daemon.tls import system_authorities
from sysreg_cli.errors import NotAuthenticated, NotAuthorized, ProtocolError, Unavailable

if TYPE_CHECKING:
    from sysreg_cli.settings import KeystoneSettings

_DELEGATIONS = ("application_credential", "OS-TRUST:trust", "OS-OAUTH1")
_CACHE_SECONDS = 30.0
_CACHE_ENTRIES = 1000
# Fernet and JWS tokens are some hundred bytes; Keystone itself refuses more than this
_LONGEST_TOKEN = 8192


class Role(enum.IntEnum):
    """What a caller may do; each includes those before it."""

    NONE = 0  # a known user of the domain, without a role in the project
    READER = 1
    OPERATOR = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end of the unix socket, as the kernel names it (SO_PEERCRED)."""

    pid: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as Keystone or the kernel named it, and the most that this caller may do."""

    name: str
    role: Role
    user_id: str = ""
    #: whether the token carries all that the user is: false for a trust or an application credential
    #: without the role admin
    may_administer: bool = False

    def require(self, role: Role) -> None:
        """Raises NotAuthorized unless the caller has ``role`` or more."""
        if self.role < role:
            raise NotAuthorized(
                f"{self.name} may not do this: it needs the role {role.name.lower()}",
                next_step="use the credentials of an administrator",
            )


class Identity:
    """Finds out who calls; remembers what Keystone said about a token for half a minute at most."""

    def __init__(self, keystone: KeystoneSettings) -> None:
        self._keystone = keystone
        self._secret = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()

    def forget(self) -> None:
        """Ask Keystone anew about everybody."""
        with self._lock:
            self._known.clear()

    def identify(self, token: str | None, peer: Peer | None) -> Caller:
        """Name the caller who sent ``token`` (None: none was sent) from ``peer``. Blocks on Keystone.

        Raises NotAuthenticated, NotAuthorized (a user of another domain, an application credential with
        access rules), Unavailable (no answer from Keystone).
        """
        if token is None:
            if peer is not None and peer.uid == 0:
                return Caller("root", Role.ADMIN)
            raise NotAuthenticated("no token was sent", next_step="send a Keystone token as X-Auth-Token")
        if not token or len(token) > _LONGEST_TOKEN or not token.isascii() or not token.isprintable():
            raise NotAuthenticated("what was sent as X-Auth-Token is no Keystone token")
        key = hashlib.blake2b(token.encode(), key=self._secret, digest_size=32).digest()
        with self._lock:
            known = self._known.get(key)
            if known is not None and time.monotonic() < known[0]:
                return known[1]
        caller, lifetime = self._ask(token)
        with self._lock:
            self._known[key] = (time.monotonic() + min(lifetime, _CACHE_SECONDS), caller)
            while len(self._known) > _CACHE_ENTRIES:
                self._known.popitem(last=False)
        return caller

    def _ask(self, token: str) -> tuple[Caller, float]:
        """What Keystone says about the token, and for how many seconds that can still be true."""
        # half a second of imports, which an agent that only root uses never needs
        from keystoneauth1 import exceptions, session, token_endpoint
        from keystoneclient.v3 import client

        settings = self._keystone
        if not settings.auth_url:
            raise Unavailable(
                "tokens cannot be checked: auth_url is not set in section [keystone] of sysreg.conf",
                next_step="set it, or call as root on the unix socket",
            )
        keystone = client.Client(
            session=session.Session(
                auth=token_endpoint.Token(settings.auth_url, token),
                verify=str(settings.ca_file) if settings.ca_file else system_authorities(),
                timeout=settings.timeout,
            ),
            endpoint_override=settings.auth_url,
        )
        try:
            # nothing is said about access_rules_support: Keystone then refuses tokens that carry such rules
            answer = keystone.tokens.get_token_data(token, include_catalog=False)
            expires = datetime.fromisoformat(answer["token"]["expires_at"])
            return caller_of(answer["token"], settings), expires.timestamp() - time.time()
        except (exceptions.Unauthorized, exceptions.NotFound):
            raise NotAuthenticated(
                "the token is wrong, revoked or expired", next_step="get a new one from Keystone"
            ) from None
        except exceptions.Forbidden:
            raise NotAuthorized("Keystone does not let this token be checked") from None
        except exceptions.ClientException as error:
            raise Unavailable(
                f"Keystone at {settings.auth_url} gives no answer ({type(error).__name__})",
                next_step="try again, or call as root on the unix socket",
            ) from None
        except (KeyError, TypeError, ValueError):
            raise ProtocolError(f"what answers at {settings.auth_url} is not Keystone") from None


def caller_of(token: Mapping[str, Any], settings: KeystoneSettings) -> Caller:
    """The caller that a validated token (the ``token`` object of Keystone's API v3) stands for.

    Raises NotAuthorized for a user of another domain, and for an application credential with access rules.
    """
    user = token["user"]
    name, domain = user["name"], user["domain"]["name"]
    if domain != settings.user_domain:
        raise NotAuthorized(
            f"{name} is of the domain {domain}: only users of {settings.user_domain} are known here"
        )
    if token.get("application_credential", {}).get("access_rules"):
        raise NotAuthorized(f"{name}: an application credential with access rules cannot be used here")
    role = Role.NONE
    project = token.get("project")
    if project and (project["name"], project["domain"]["name"]) == (
        settings.admin_project,
        settings.user_domain,
    ):
        held = {entry["name"].upper() for entry in token["roles"]}
        role = max(role for role in Role if role is Role.NONE or role.name in held)
    delegated = any(key in token for key in _DELEGATIONS)
    named = {entry["name"] for entry in token.get("roles", [])}
    return Caller(name, role, user["id"], may_administer=not delegated or "admin" in named)
