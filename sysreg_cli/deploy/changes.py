"""Plan the changes that a deployment needs, apply them, and undo a deployment."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sysreg_cli.deploy.deployment import Deployment
from sysreg_cli.deploy.machine import CommandFailed
from sysreg_cli.deploy.record import Record
from sysreg_cli.deploy.resource import Change, Context, Resource
from sysreg_cli.deploy.restart import admit_connections
from sysreg_cli.errors import Conflict, SysregError
from sysreg_cli.host import files
from sysreg_cli.host.locks import services_lock
from sysreg_cli.settings import Settings

#: A change can require another: a new signing key changes the certificates that the registry trusts.
_MAX_ROUNDS = 4


@dataclass(frozen=True)
class PlannedChange:
    """One change of a plan, and the resource that needs it."""

    resource: Resource
    change: Change

    @property
    def restarts(self) -> tuple[str, ...]:
        return (*self.resource.restarts, *self.change.restarts)

    def apply(self, context: Context) -> None:
        """Apply the change and compare again. Raises SysregError, also if there still is a difference."""
        with _resource_named(self.resource):
            context.require_restarts(self.restarts)
            self.change.apply(context)
            left = self.resource.compare(context)
        if left is not None:
            raise SysregError(f"{self.change.line}: done, but this machine still differs: {left.line}")
        context.report(self.change.line)


def make_plan(resources: Sequence[Resource], context: Context) -> tuple[PlannedChange, ...]:
    """Return all changes that ``resources`` need now, in order. Changes nothing. Raises SysregError.

    ``--dry-run`` and ``--check`` print such a plan, a run applies it.
    """
    scratch = dataclasses.replace(context, pending=set(context.pending))
    plan = []
    for resource in resources:
        with _resource_named(resource):
            change = resource.compare(scratch)
        if change:
            plan.append(PlannedChange(resource, change))
            scratch.pending.update(plan[-1].restarts)
    return tuple(plan)


def apply(deployment: Deployment, context: Context, *, adopt: bool) -> int:
    """Apply all changes that ``deployment`` needs, and return their number.

    Raises Conflict, before it changes anything, if a certificate is being installed, or if it would replace
    something that sysreg-deploy did not write and ``adopt`` is not given. Raises SysregError if a change
    fails; the earlier ones stay.
    """
    record, done = context.record, 0
    record.make_directory(record.directory)
    with services_lock(record.directory, "sysreg-deploy", wait=10):
        _remove_leftovers(record)
        for _ in range(_MAX_ROUNDS):
            plan = make_plan(deployment.on_disk, context)
            if not adopt:
                _require_own(plan)
            done += _apply(plan, context)
            if not plan:
                break
        else:
            raise SysregError(f"still different after {_MAX_ROUNDS} rounds: {plan[0].change.line}")
    # Without the lock: the agent takes it at its start, to finish what was interrupted.
    return done + _apply(make_plan(deployment.services, context), context)


def _apply(plan: Sequence[PlannedChange], context: Context) -> int:
    for planned in plan:
        planned.apply(context)
    return len(plan)


def _require_own(plan: Sequence[PlannedChange]) -> None:
    """Raise Conflict if a change would replace something that sysreg-deploy did not write."""
    if foreign := [planned.change.line for planned in plan if planned.change.foreign]:
        raise Conflict(
            f"refused to {'; to '.join(foreign)}",
            next_step="see sysreg-deploy --dry-run; --adopt replaces them and keeps a backup",
        )


def _remove_leftovers(record: Record) -> None:
    """Remove the temporary files of a run that was killed."""
    written = {Path(name).parent for name in record.files}
    for directory in written | {Path(name) for name in record.directories}:
        files.remove_leftovers(directory)


def remove(deployment: Deployment, context: Context, settings: Settings, *, purge: bool) -> None:
    """Undo what the record says; with ``purge``, remove the images, too. Raises SysregError.

    A second run finishes what a killed one left. It needs the settings and the record, so they go last.
    """
    record = context.record
    _remove_leftovers(record)
    registry_was_enabled = settings.registry.unit not in record.enabled
    for resource in reversed((*deployment.resources, *deployment.services)):
        _remove(resource, context)
    images = settings.registry.storage / "docker"
    if purge and images.exists():
        shutil.rmtree(images)
        context.report(f"removed {images}, the images")
    admit_connections(context.programs)
    context.programs.change("systemctl", "daemon-reload")
    if registry_was_enabled:
        with contextlib.suppress(CommandFailed):  # it runs as before, with the configuration of its package
            context.programs.change("systemctl", "restart", settings.registry.unit)
    _remove(deployment.sample, context)
    _remove_state(context)


def _remove(resource: Resource, context: Context) -> None:
    if context.keep_data and resource.is_data:
        return
    with _resource_named(resource):
        if line := resource.remove(context):
            context.report(line)


def _remove_state(context: Context) -> None:
    """Remove the state directory, the record last, and the directories that sysreg-deploy made, if empty."""
    directories = sorted(map(Path, context.record.directories), key=lambda path: len(str(path)), reverse=True)
    state = context.record.directory
    if state.exists():
        for path in sorted(state.iterdir(), key=lambda path: path.name == "deploy.json"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        state.rmdir()
        context.report(f"removed {state}")
    for directory in directories:
        with contextlib.suppress(OSError):  # it does not exist, or holds files of others
            directory.rmdir()
            context.report(f"removed {directory}")


@contextlib.contextmanager
def _resource_named(resource: Resource) -> Iterator[None]:
    """Raise a SysregError in place of an OSError, with the path and what to do next."""
    try:
        yield
    except OSError as error:
        where = error.filename or type(resource).__name__
        raise SysregError(
            f"{where}: {error.strerror or error}", next_step="repair that, then run sysreg-deploy again"
        ) from None
