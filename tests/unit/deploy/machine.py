"""A context whose record and programs a test can look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sysreg_cli.deploy.machine import CommandFailed, Programs
from sysreg_cli.deploy.record import Record
from sysreg_cli.deploy.resource import Change, Context, Resource


@dataclass
class FakePrograms(Programs):
    """Programs that write down their commands. ``outputs`` and ``failing`` are by the whole command."""

    outputs: dict[str, str] = field(default_factory=dict)
    failing: dict[str, str] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)

    def change(self, *args: str, timeout: float = 90) -> None:
        self.changes.append(" ".join(args))
        self.query(*args, timeout=timeout)

    def query(self, *args: str, check: bool = True, timeout: float = 90) -> str:
        command = " ".join(args)
        self.queries.append(command)
        if check and command in self.failing:
            raise CommandFailed(args, f"failed: {self.failing[command]}")
        return self.outputs.get(command, "")


def context_of(state: Path, programs: FakePrograms | None = None) -> Context:
    """A context with the record below ``state``."""
    record = Record.load(state)
    return Context(record, set(record.restart), programs or FakePrograms())


def required(resource: Resource, context: Context) -> Change:
    """The change that ``resource`` needs now; there must be one."""
    change = resource.compare(context)
    assert change is not None
    return change


def apply(resource: Resource, context: Context) -> str:
    """Apply the change that ``resource`` needs, and return its line. No difference may be left."""
    change = required(resource, context)
    change.apply(context)
    assert resource.compare(context) is None
    return change.line
