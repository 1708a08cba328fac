"""Whether the daemons run with the present settings and version: they read both only at their start."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import sysreg_cli
from sysreg_cli.deploy.items import Change, Context
from sysreg_cli.settings import Settings


@dataclass(frozen=True)
class Taken:
    """The digest with which the daemons were started last."""

    digest: str
    restarts: tuple[str, ...] = ()

    def compare(self, context: Context) -> Change | None:
        if context.record.taken == self.digest:
            return None
        return Change("have the daemons take the present settings and version")

    def apply(self, context: Context) -> None:
        context.record.taken = self.digest
        context.record.save()

    def remove(self, context: Context) -> str:
        return ""


def digest(settings: Settings) -> str:
    """A digest of all that the daemons read at their start."""
    return hashlib.sha256(f"{sysreg_cli.__version__} {settings!r}".encode()).hexdigest()
