"""Who may do what with which repository: the table in docs/contracts.rst, "Tokens", as code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sysreg_cli import reference
from sysreg_cli.settings import TokenServerSettings
from sysreg_cli.text import shorten
from sysreg_cli.tokens.access import Access

_EVERYTHING = frozenset({"pull", "push", "delete", "*"})
_READ = frozenset({"pull"})
_NOTHING: frozenset[str] = frozenset()
_PUBLIC = "public"
# docker's names for its own registry's official images, and for a registry on the same machine
_REGISTRY_NAMES = frozenset({"library", "localhost"})


@dataclass(frozen=True, slots=True)
class Identity:
    """A user of the configured domain, as Keystone names them.

    ``may_administer`` is false if the user acts through an application credential or a trust that lacks the
    role admin.
    """

    name: str
    may_administer: bool = True


class Grants:
    """The grants of one set of settings."""

    def __init__(self, settings: TokenServerSettings) -> None:
        self._administrators = frozenset(settings.administrators)
        self._public_images = frozenset(settings.public_images)
        # a user with the name of a public image's first component would own what everybody pulls
        self._reserved = frozenset(settings.reserved_users) | {_PUBLIC}
        self._reserved |= {image.partition("/")[0] for image in settings.public_images}
        self._registry_like_users = frozenset(settings.registry_like_users)

    def is_administrator(self, identity: Identity) -> bool:
        return identity.may_administer and identity.name in self._administrators

    def why_no_login(self, identity: Identity) -> str:
        """Say why this user can't use the registry at all, or return ""."""
        name = identity.name
        if self.is_administrator(identity) or name in self._reserved or reference.is_component(name):
            return ""
        return (
            f"user {shorten(name)} can't use the registry: a user owns the images below USER/, and"
            " parts of an image name are made of a-z and 0-9, joined by . _ or -"
        )

    def actions(self, identity: Identity, repository: str) -> frozenset[str]:
        """Return what ``identity`` may do with ``repository``; with ``*`` only if it may do everything."""
        if not reference.is_repository(repository) or self.why_no_login(identity):
            return _NOTHING
        if self.is_administrator(identity):
            return _EVERYTHING
        first, slash, _ = repository.partition("/")
        if slash and first == identity.name and self._may_own(first):
            return _EVERYTHING
        if (slash and first == _PUBLIC) or repository in self._public_images:
            return _READ
        return _NOTHING

    def _may_own(self, name: str) -> bool:
        """Whether the images below ``name``/ belong to the user of that name.

        Mirrors of other registries are below the names of these, such as ``docker.io/``. All nodes run them,
        so no user becomes their owner by a name alone.
        """
        if name in self._reserved:
            return False
        return name in self._registry_like_users or not ("." in name or name in _REGISTRY_NAMES)

    def allowed(self, identity: Identity, requested: Iterable[Access]) -> list[Access]:
        """Return the allowed part of ``requested``, without the resources of which nothing is allowed."""
        granted = []
        for access in requested:
            if actions := self._allowed_actions(identity, access):
                granted.append(Access(access.type, access.name, actions))
        return granted

    def _allowed_actions(self, identity: Identity, requested: Access) -> tuple[str, ...]:
        if requested.type == "repository":
            allowed = self.actions(identity, requested.name)
            if "*" in requested.actions and "*" not in allowed:
                return tuple(sorted(allowed))
            return tuple(action for action in requested.actions if action in allowed)
        if requested.is_catalog and self.is_administrator(identity):
            return tuple(action for action in requested.actions if action == "*")
        return ()
