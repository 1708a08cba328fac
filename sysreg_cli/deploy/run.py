"""Going through a plan: what differs, mending it, undoing it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from sysreg_cli.deploy.items import Change, Context, Item, command
from sysreg_cli.deploy.record import Record
from sysreg_cli.deploy.restart import let_in
from sysreg_cli.deploy.units import Loaded, Running, Taking
from sysreg_cli.errors import Conflict, SysregError
from sysreg_cli.host import files
from sysreg_cli.host.locks import services_lock
from sysreg_cli.settings import Settings


def differences(items: Sequence[Item], record: Record) -> list[tuple[Item, Change]]:
    """What ``apply`` would change, in order. Raises SysregError."""
    context = Context(record, set(record.restart))
    found = []
    for item in items:
        with _named(item):
            change = item.compare(context)
        if change:
            context.pending.update((*item.restarts, *change.restarts))
            found.append((item, change))
    return found


def apply(items: Sequence[Item], record: Record, *, adopt: bool, report: Callable[[str], None]) -> int:
    """Mend all that differs, and return how many changes that took; ``report`` gets a line for each.

    Raises Conflict, before anything is changed, if that would overwrite what others wrote and ``adopt`` is
    not given, or if a certificate is being installed; SysregError if a step fails: what is done stays done.
    """
    foreign = [change.line for _, change in differences(items, record) if change.foreign]
    if foreign and not adopt:
        raise Conflict(
            f"refused to {'; to '.join(foreign)}",
            next_step="see sysreg-deploy --dry-run; --adopt replaces them and keeps a backup",
        )
    context = Context(record, set(record.restart), report)
    record.make_directory(record.directory)
    _tidy(items, record)
    first = [item for item in items if not isinstance(item, Loaded | Running | Taking)]
    with services_lock(record.directory, "sysreg-deploy", wait=10):
        done = _mend(first, context, report)
    # not under the lock: the agent takes it at its start, to finish what was cut off
    return done + _mend([item for item in items if item not in first], context, report)


def _mend(items: Sequence[Item], context: Context, report: Callable[[str], None]) -> int:
    done = 0
    for item in items:
        with _named(item):
            change = item.compare(context)
            if change is None:
                continue
            restarts = (*item.restarts, *change.restarts)
            context.pending.update(restarts)
            # before the change: if we are killed after it, the next run still restarts them
            context.record.restart = sorted(context.pending)
            if restarts:
                context.record.save()
            item.apply(context)
            left = item.compare(context)
        if left is not None:
            raise SysregError(f"{change.line}: done, and yet it would have to {left.line}")
        report(change.line)
        done += 1
    return done


def _tidy(items: Sequence[Item], record: Record) -> None:
    """Remove what a run that was killed left beside the files it wrote."""
    paths = [Path(one) for one in record.files] + [
        path for item in items if (path := getattr(item, "path", None))
    ]
    for directory in {path.parent for path in paths} | {Path(one) for one in record.directories}:
        files.remove_leftovers(directory)


def remove(
    items: Sequence[Item], record: Record, settings: Settings, *, purge: bool, report: Callable[[str], None]
) -> None:
    """Undo what the record says we did; ``purge``: the images too. Raises SysregError.

    A second run finishes what a killed one left: it needs the settings and the record, which go last.
    """
    context = Context(record)
    _tidy(items, record)
    registry_was_enabled = settings.registry.unit not in record.enabled
    sample, *others = items
    _remove(reversed(others), context, report)
    if purge:
        for path in (settings.registry.storage / "docker",):
            if path.exists():
                shutil.rmtree(path)
                report(f"removed {path}, the images")
    let_in()
    command("systemctl", "daemon-reload")
    if registry_was_enabled:
        with contextlib.suppress(SysregError):  # as it was before us: with its package's configuration
            command("systemctl", "restart", settings.registry.unit)
    _remove([sample], context, report)
    directories = sorted(record.directories, key=len, reverse=True)
    state = record.directory
    if state.exists():
        for path in sorted(state.iterdir(), key=lambda one: one.name == "deploy.json"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        state.rmdir()
        report(f"removed {state}")
    for directory in directories:
        with contextlib.suppress(OSError):  # not empty: others' files are in it
            Path(directory).rmdir()
            report(f"removed {directory}")


def _remove(items: Iterable[Item], context: Context, report: Callable[[str], None]) -> None:
    for item in items:
        with _named(item):
            if line := item.remove(context):
                report(line)


@contextlib.contextmanager
def _named(item: Item) -> Iterator[None]:
    """Errors of the system become ours, with what to do next."""
    try:
        yield
    except OSError as error:
        where = error.filename or getattr(item, "path", type(item).__name__)
        raise SysregError(
            f"{where}: {error.strerror or error}", next_step="mend that, then run sysreg-deploy again"
        ) from None
