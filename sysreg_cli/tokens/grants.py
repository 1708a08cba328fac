"""Who may do what with which repository: the table in docs/contracts.rst, "Tokens".

Every function goes from values to values.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sysreg_cli import reference
from sysreg_cli.settings import TokenServerSettings
from sysreg_cli.text import shorten
from sysreg_cli.tokens.access import Access
from sysreg_cli.tokens.scope import Scope

_EVERYTHING = frozenset({"pull", "push", "delete", "*"})
_READ = frozenset({"pull"})
_NOTHING: frozenset[str] = frozenset()
_PUBLIC = "public"


@dataclass(frozen=True, slots=True)
class Identity:
    """A user of the configured domain, as Keystone names them.

    ``may_administer`` is false where the user acts through something that carries less than themselves: an
    application credential, or a trust, without the role admin.
    """

    name: str
    may_administer: bool = True


class Grants:
    """The grants of one set of settings."""

    def __init__(self, settings: TokenServerSettings) -> None:
        self._administrators = frozenset(settings.administrators)
        self._public_images = frozenset(settings.public_images)
        # Whoever is named like the first part of a public image would own what everybody pulls.
        self._reserved = frozenset(settings.reserved_users) | {_PUBLIC}
        self._reserved |= {image.partition("/")[0] for image in settings.public_images}

    def is_administrator(self, identity: Identity) -> bool:
        return identity.may_administer and identity.name in self._administrators

    def why_no_login(self, identity: Identity) -> str:
        """Why this user can't use the registry at all, or nothing."""
        name = identity.name
        if self.is_administrator(identity) or name in self._reserved or reference.is_component(name):
            return ""
        return (
            f"user {shorten(name)} can't use the registry: a user owns the images below USER/, and"
            " parts of an image name are made of a-z and 0-9, joined by . _ or -"
        )

    def actions(self, identity: Identity, repository: str) -> frozenset[str]:
        """What ``identity`` may do with ``repository``; ``*`` is in it only where everything is allowed."""
        if not reference.is_repository(repository) or self.why_no_login(identity):
            return _NOTHING
        if self.is_administrator(identity):
            return _EVERYTHING
        first, slash, _ = repository.partition("/")
        if slash and first == identity.name and identity.name not in self._reserved:
            return _EVERYTHING
        if (slash and first == _PUBLIC) or repository in self._public_images:
            return _READ
        return _NOTHING

    def allowed(self, identity: Identity, scopes: Iterable[Scope]) -> list[Access]:
        """The allowed part of what is asked; resources of which nothing is allowed are left out."""
        granted = []
        for scope in scopes:
            actions = self._allowed_actions(identity, scope)
            if actions:
                granted.append(Access(scope.type, scope.name, actions))
        return granted

    def _allowed_actions(self, identity: Identity, scope: Scope) -> tuple[str, ...]:
        if scope.type == "repository":
            allowed = self.actions(identity, scope.name)
            if "*" in scope.actions and "*" not in allowed:
                return tuple(sorted(allowed))
            return tuple(action for action in scope.actions if action in allowed)
        if (scope.type, scope.name) == ("registry", "catalog") and self.is_administrator(identity):
            return tuple(action for action in scope.actions if action == "*")
        return ()
