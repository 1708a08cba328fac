"""What one entry of a registry token allows (distribution token specification, claim ``access``)."""

from __future__ import annotations

from dataclasses import dataclass

# Whoever may do one of these changes the storage: their tokens are short and pass the write lock.
WRITE_ACTIONS = frozenset({"push", "delete", "*"})


@dataclass(frozen=True, slots=True)
class Access:
    """One resource and what may be done with it: ``repository``, ``public/busybox``, ``("pull",)``."""

    type: str
    name: str
    actions: tuple[str, ...]

    @property
    def writes(self) -> bool:
        """Whether it allows to change a repository; the catalog's ``*`` only reads."""
        return self.type == "repository" and not WRITE_ACTIONS.isdisjoint(self.actions)

    def __str__(self) -> str:
        return f"{self.type}:{self.name}:{','.join(self.actions)}"
