"""Checks of what the agent tells or does: collections, a test image, changes that were interrupted, blobs."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sysreg_cli.errors import SysregError
from sysreg_cli.health.readings import Readings
from sysreg_cli.health.remedies import AGENT_UNIT, restart, see_journal
from sysreg_cli.health.results import Remedy, Result, Skipped, failed, ok, warning
from sysreg_cli.host import locks
from sysreg_cli.host.probe import NoResponse
from sysreg_cli.tokens.rollover_files import RolloverFiles
from sysreg_cli.v1.collections import CollectionStatus, Outcome, State
from sysreg_cli.v1.health import TrialOutcome

# what is damaged, in one cell
_MAX_DAMAGES = 10
_AGAIN = Remedy("run it again", "system registry-garbage-collect")
#: journals in the state directory, and what they are about
_JOURNALS = {
    "certificate-journal": "a change of the registry's certificate",
    "authorities-journal": "a change of the CA certificates",
}


def collection(readings: Readings) -> Result:
    """The last garbage collection ended well."""
    status = _collections(readings)
    last = next((result for result in status.results if not result.options.dry_run), None)
    running = "; one is running" if status.state == State.RUNNING else ""
    if last is None:
        return ok(f"none has run yet{running}")
    what = f"the last one ended {_age(last.ended)}: {last.outcome}"
    if last.outcome == Outcome.DONE:
        return ok(f"{what}{running}")
    if running:
        return warning(f"{what}{running}", Remedy("see", "system registry-garbage-collect --status"))
    what = f"{what} ({last.error})" if last.error else what
    return (warning if last.outcome == Outcome.CANCELLED else failed)(what, _AGAIN)


def _collections(readings: Readings) -> CollectionStatus:
    """Return what the agent says. Raises Skipped."""
    try:
        return readings.collections()
    except SysregError as error:
        raise Skipped(error.message) from None


def _age(time: str) -> str:
    try:
        age = datetime.now(UTC) - datetime.fromisoformat(time)
    except (ValueError, TypeError):
        return "at an unknown time"
    for unit, length in (("day", timedelta(days=1)), ("hour", timedelta(hours=1))):
        if (number := age // length) >= 1:
            return f"{number} {unit}{'s' if number > 1 else ''} ago"
    return f"{max(0, age // timedelta(minutes=1))} min ago"


def changes(readings: Readings) -> Result:
    """No change of a certificate or of the token-signing key was interrupted."""
    readings.require_root("the journals of changes")
    state = readings.settings.paths.state
    is_begun = bool(_begun(state) or RolloverFiles.of(readings.settings).present)
    if is_begun and (holder := locks.holder(state)):
        return ok(f"{holder} is under way")
    # read again, because one that was under way may just have ended
    if rollover := RolloverFiles.of(readings.settings).present:
        named = ", ".join(map(str, rollover))
        what = f"a change of the token-signing key was interrupted: {named}"
        return failed(what, Remedy("finish it", "sysreg-deploy"))
    if not (journals := _begun(state)):
        return ok("none was interrupted")
    what = f"{' and '.join(journals)} was interrupted"
    remedy = restart(readings.settings, AGENT_UNIT)
    return failed(what, Remedy("its next start finishes or undoes it", remedy.command))


def _begun(state: Path) -> list[str]:
    """Return the changes that have a journal."""
    return [what for name, what in _JOURNALS.items() if (state / name).exists()]


def image(readings: Readings) -> Result:
    """An image of 1 KiB can be pushed, pulled and deleted."""
    with contextlib.suppress(NoResponse):
        if readings.registry().status in (200, 401):
            return _trial(readings)
    raise Skipped("the registry does not answer")


def _trial(readings: Readings) -> Result:
    try:
        trial = readings.agent_calls().try_registry()
    except SysregError as error:
        return _without_answer(readings, error)
    match trial.outcome:
        case TrialOutcome.PASSED:
            return ok("1 KiB was pushed, pulled, compared and deleted")
        case TrialOutcome.HELD:
            raise Skipped("a garbage collection holds pushes")
        case TrialOutcome.NOT_SUPPORTED:
            raise Skipped(trial.problem)
    what = f"{trial.step} of a test image: {trial.problem}"
    see = see_journal(readings.settings, readings.settings.registry.unit)
    return failed(what, Remedy(f"mend what the other checks name first, or {see.text}", see.command))


def _without_answer(readings: Readings, error: SysregError) -> Result:
    """Judge an error of the agent. Raises Skipped for one that says nothing of the registry.

    Those have a status of their own: the caller may not ask, or the agent is busy or away.
    """
    if error.http_status != SysregError.http_status:
        raise Skipped(error.message) from None
    see = see_journal(readings.settings, AGENT_UNIT)
    return failed(error.message, Remedy(error.next_step) if error.next_step else see)


def blobs(readings: Readings) -> Result:
    """Each blob has the content that its digest names."""
    if not readings.deep:
        raise Skipped("--deep reads every blob")
    try:
        found = readings.agent_calls().read_blobs()
    except SysregError as error:
        return _without_answer(readings, error)
    read = f"{found.blobs} blobs of {found.bytes / 1e9:.1f} GB were read"
    if not found.damages:
        return ok(f"{read}, and each has the content of its digest")
    more = len(found.damages) - _MAX_DAMAGES
    shown = [*found.damages[:_MAX_DAMAGES], *([f"and {more} more"] if more > 0 else [])]
    what = f"{read}; damaged: {' | '.join(shown)}"
    if not found.images:
        return failed(what, Remedy("do what stands behind each of these"))
    delete = f"system registry-image-delete --yes {' '.join(found.images)}"
    command = f"{delete} && system registry-garbage-collect"
    return failed(what, Remedy("delete the damaged images, collect, then push them again", command))
