"""Who calls the agent: the owner of a Keystone token, or root at the other end of the unix socket.

Some calls also take a registry token; see ``registry_token``.

If a request carries a token, the token decides. Roles count only in the configured project and domain, and
users of other domains are refused. Keystone lets every token validate itself (policy
identity:validate_token, rule token_subject), so the agent needs no account of its own there.
"""

from __future__ import annotations

import enum
import hashlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from cachetools import TLRUCache

from sysreg_cli.addresses import network_of
from sysreg_cli.daemon.fair_threads import FairThreads
from sysreg_cli.errors import NotAuthenticated, NotAuthorized, ProtocolError, Unavailable
from sysreg_cli.keystone import NOT_A_TOKEN, TokenOwner, describe_failure, identity_url, open_session
from sysreg_cli.tokens.access import Access
from sysreg_cli.tokens.grants import Grants, Identity

if TYPE_CHECKING:
    from sysreg_cli.settings import KeystoneSettings

_MAX_CACHE_SECONDS = 30.0
_MAX_CACHE_ENTRIES = 1000
# Threads that ask Keystone, and those of them that one client may use at the same time
_THREADS, _THREADS_FOR_CLIENT = 8, 2
# Fernet and JWS tokens have some hundred bytes; Keystone refuses more than this
_MAX_TOKEN = 8192


class Role(enum.IntEnum):
    """What a caller may do; each role includes those before it."""

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
    """The sender of a request, named by Keystone or the kernel, and the highest role of this sender."""

    name: str
    role: Role
    #: whether the token has all rights of its owner, see TokenOwner.may_administer
    may_administer: bool = False
    #: what a registry token allows, and nothing else does; None for a caller who sent no registry token
    access: tuple[Access, ...] | None = None

    def may(self, action: str, repository: str, grants: Grants) -> bool:
        """Whether the caller may ``pull``, ``push`` or ``delete`` in the repository.

        A registry token decides for its sender. The role admin may do everything, and the others what the
        token server grants them.
        """
        if self.access is not None:
            allowed = {it for entry in self.access if entry.is_repository(repository) for it in entry.actions}
            return not allowed.isdisjoint((action, "*"))
        if self.role >= Role.ADMIN:
            return True
        return action in grants.actions(Identity(self.name, self.may_administer), repository)

    def may_pull(self, repository: str, grants: Grants) -> bool:
        """Whether the caller sees the repository."""
        return self.may("pull", repository, grants)

    def may_list_all(self, grants: Grants) -> bool:
        """Whether the caller may know the names of all repositories, as the registry's catalog shows them."""
        if self.access is not None:
            return any(entry.is_catalog and "*" in entry.actions for entry in self.access)
        return self.role >= Role.ADMIN or grants.is_administrator(Identity(self.name, self.may_administer))

    def require_may(self, action: str, repository: str, grants: Grants) -> None:
        """Raise NotAuthorized unless the caller may do ``action`` in the repository."""
        if not self.may(action, repository, grants):
            raise NotAuthorized(
                f"{self.name} may not {action} in {repository}",
                next_step="use the credentials of its owner or of an administrator",
            )

    def require(self, role: Role) -> None:
        """Raise NotAuthorized unless the caller has ``role`` or a higher one."""
        if self.role < role:
            raise NotAuthorized(
                f"{self.name} may not do this: it needs the role {role.name.lower()}",
                next_step="use the credentials of an administrator",
            )


class CallerAuthenticator:
    """Finds the caller of a request. Keeps Keystone's response about a token for half a minute at most.

    Only the event loop's thread may use it.
    """

    def __init__(self, keystone: KeystoneSettings) -> None:
        self._keystone = keystone
        self._secret = secrets.token_bytes(32)
        # not those of the calls: while Keystone hangs, unknown tokens must not keep root waiting
        self._threads = FairThreads("keystone", threads=_THREADS, for_client=_THREADS_FOR_CLIENT)
        # the value is the caller, and the time.time() at which the token expires
        self._known: TLRUCache[bytes, tuple[Caller, float]] = TLRUCache(
            _MAX_CACHE_ENTRIES,
            lambda _key, known, now: now + min(known[1] - time.time(), _MAX_CACHE_SECONDS),
        )

    def forget(self) -> None:
        """Ask Keystone again about every token."""
        self._known.clear()

    async def authenticate(self, token: str | None, peer: Peer | None, client: str = "") -> Caller:
        """Return the caller who sent ``token`` (None: no token) from ``peer`` or the address ``client``.

        Raises NotAuthenticated, NotAuthorized (a user of another domain, an application credential with
        access rules), Unavailable and ProtocolError (no usable response from Keystone).
        """
        if token is None:
            if peer is not None and peer.uid == 0:
                return Caller("root", Role.ADMIN)
            raise NotAuthenticated("no token was sent", next_step="send a Keystone token as X-Auth-Token")
        if not token or len(token) > _MAX_TOKEN or not token.isascii() or not token.isprintable():
            raise NotAuthenticated("X-Auth-Token is not a Keystone token")
        key = hashlib.blake2b(token.encode(), key=self._secret, digest_size=32).digest()
        if known := self._known.get(key):
            return known[0]
        asker = f"uid {peer.uid}" if peer else network_of(client)
        owner = await self._threads.submit(partial(self._validate, token), asker).result
        caller = caller_of(owner, self._keystone)
        self._known[key] = caller, owner.expires_at
        return caller

    def _validate(self, token: str) -> TokenOwner:
        """Let Keystone validate the token."""
        # half a second of imports, which an agent that only root uses never needs
        from keystoneauth1 import exceptions, token_endpoint
        from keystoneclient.v3 import client

        settings = self._keystone
        if not settings.auth_url:
            raise Unavailable(
                "tokens cannot be checked: auth_url is not set in section [keystone] of sysreg.conf",
                next_step="set it, or call as root on the unix socket",
            )
        url = identity_url(settings.auth_url)
        session = open_session(
            program="sysreg-agent",
            ca_file=settings.ca_file,
            timeout=settings.timeout,
            auth=token_endpoint.Token(url, token),
        )
        try:
            # without access_rules_support Keystone refuses a token that has access rules
            body: Mapping[str, Any] = client.Client(
                session=session, endpoint_override=url
            ).tokens.get_token_data(token, include_catalog=False)
            return TokenOwner.of(body["token"])
        except (exceptions.Unauthorized, exceptions.NotFound):
            raise NotAuthenticated(
                "the token is wrong, revoked or expired", next_step="get a new one from Keystone"
            ) from None
        except exceptions.Forbidden:
            raise NotAuthorized("Keystone does not let this token be checked") from None
        except exceptions.ClientException as error:
            raise Unavailable(
                f"Keystone at {url} can't be asked: {describe_failure(error)}",
                next_step="try again, or call as root on the unix socket",
            ) from None
        except NOT_A_TOKEN:
            raise ProtocolError(f"what answers at {url} is not Keystone") from None


def caller_of(owner: TokenOwner, settings: KeystoneSettings) -> Caller:
    """Return the caller who sent a token of ``owner``.

    Raises NotAuthorized for a user of another domain, and for an application credential with access rules.
    """
    if why := owner.why_refused(settings):
        raise NotAuthorized(why)
    held = owner.roles_in(settings)
    role = max((role for role in Role if role.name.lower() in held), default=Role.NONE)
    return Caller(owner.name, role, may_administer=owner.may_administer(settings))
