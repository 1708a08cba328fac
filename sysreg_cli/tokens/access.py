"""One entry of a registry token's claim ``access`` (distribution token specification)."""

from __future__ import annotations

from dataclasses import dataclass

# A token with one of these can change the storage: it is short-lived, and its issue needs the write lock.
WRITE_ACTIONS = frozenset({"push", "delete", "*"})


@dataclass(frozen=True, slots=True)
class Access:
    """A resource and the actions on it, such as ``repository``, ``public/busybox``, ``("pull",)``."""

    type: str
    name: str
    actions: tuple[str, ...]

    @property
    def writes(self) -> bool:
        """Whether it can change a repository. The catalog's ``*`` only reads."""
        return self.type == "repository" and not WRITE_ACTIONS.isdisjoint(self.actions)

    @property
    def is_catalog(self) -> bool:
        """Whether it is for the list of all repositories."""
        return (self.type, self.name) == ("registry", "catalog")

    def is_repository(self, name: str) -> bool:
        """Whether it is for the repository ``name``."""
        return (self.type, self.name) == ("repository", name)

    def __str__(self) -> str:
        return f"{self.type}:{self.name}:{','.join(self.actions)}"
