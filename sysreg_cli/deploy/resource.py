"""``Resource``, the base class of everything that a controller consists of.

A resource compares itself with the machine. The result is a ``Change``, which can be printed or applied. A
run may be killed at any point, so every change can be applied again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sysreg_cli.deploy.machine import Attributes, Programs
from sysreg_cli.deploy.record import Record
from sysreg_cli.errors import SysregError
from sysreg_cli.host.locks import services_lock

_LOCK_SECONDS = 30.0


@dataclass
class Context:
    """What all resources of one run share."""

    record: Record
    #: the units that have to be restarted for changes made, or planned, so far
    pending: set[str] = field(default_factory=set)
    programs: Programs = field(default_factory=Programs)
    #: prints a line for the operator
    report: Callable[[str], None] = lambda _line: None
    #: whether a removal leaves the data: see ``Resource.is_data``
    keep_data: bool = False

    def require_restarts(self, units: tuple[str, ...]) -> None:
        """Write down, before a change, that ``units`` have to be restarted after it. Raises OSError.

        If this run is killed, the next one restarts them.
        """
        self.pending.update(units)
        self.record.restart = sorted(self.pending)
        if units:
            self.record.save()

    def restarted(self, unit: str) -> None:
        """Write down that ``unit`` was restarted. Raises Conflict, OSError."""
        self.pending.discard(unit)
        if unit in self.record.restart:
            self.record.restart.remove(unit)
            # An agent that starts holds this lock while it removes the rests of interrupted writes.
            with services_lock(self.record.directory, "sysreg-deploy", wait=_LOCK_SECONDS):
                self.record.save()


@dataclass(frozen=True)
class Change:
    """A difference between a resource and the machine, and the action that removes it."""

    #: says in one line what the action does
    line: str
    #: removes the difference; raises SysregError, OSError
    apply: Callable[[Context], None]
    #: the same as a unified diff, for text
    diff: str = ""
    #: whether the action replaces something that sysreg-deploy did not write
    foreign: bool = False
    #: units that this change concerns, in addition to the resource's ``restarts``
    restarts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resource:
    """One thing that a controller consists of. It writes into the record before it writes elsewhere."""

    #: units that notice a change only after a restart
    restarts: tuple[str, ...] = field(default=(), kw_only=True)
    #: whether it holds settings, keys, or accounts that own them: ``--remove --keep-data`` leaves it
    is_data: bool = field(default=False, kw_only=True)

    def compare(self, context: Context) -> Change | None:
        """Return the difference from the machine, None if there is none. Raises SysregError, OSError."""
        raise NotImplementedError

    def remove(self, context: Context) -> str:
        """Undo it. Return a line that says what was done, or an empty one. Raises SysregError, OSError."""
        return ""

    def refusal(self) -> SysregError | None:
        """Return what only the operator can repair. It is reported when everything else is done."""
        return None


def attributes_change(wanted: Mapping[Path, Attributes]) -> Change | None:
    """Return a change that sets the attributes of all ``wanted`` paths, None if they have them."""
    lines = [line for path, attributes in wanted.items() if (line := attributes.difference(path))]

    def apply(_context: Context) -> None:
        for path, attributes in wanted.items():
            attributes.set(path)

    return Change("; ".join(lines), apply) if lines else None
