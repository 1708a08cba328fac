"""What the command shows of garbage collections: lines for people, and objects for the other formats."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sysreg_cli.cli.output import counted
from sysreg_cli.errors import SysregError
from sysreg_cli.v1.collections import CollectionPlan, CollectionResult, CollectionStatus, Outcome, State


def report(result: CollectionResult) -> dict[str, Any]:
    """Return what the formats for scripts show of a collection that was waited for."""
    return {
        "outcome": result.outcome,
        "dry_run": result.options.dry_run,
        "blobs": result.blobs,
        "bytes": result.bytes if result.sizes_known else None,
        "manifests": result.manifests,
        "repositories": result.repositories,
        "pinned": result.pinned,
        "seconds": result.duration,
        "writes_held": result.writes_held,
        "holds": result.holds,
        "longest_hold": result.longest_hold,
        "phases": result.seconds,
        "warnings": result.warnings,
        "ended_writes": result.ended_writes,
        "irrecoverable": result.irrecoverable,
        "irrecoverable_tags": result.irrecoverable_tags,
    }


COLUMNS = tuple(report(CollectionResult(id="")))


def require_done(result: CollectionResult) -> None:
    """Raise SysregError unless the collection did what was asked for."""
    if result.outcome != Outcome.DONE:
        freed = result.blobs and not result.options.dry_run
        partly = f" (until then freed: {_freed(result)})" if freed else ""
        raise SysregError(f"garbage collection {result.outcome}: {result.error}{partly}")


def lines(result: CollectionResult, plan: CollectionPlan | None) -> Iterator[str]:
    """Yield what to tell a person about a collection that is done."""
    dry_run = result.options.dry_run
    if dry_run:
        yield f"Would free {_freed(result)}"
    else:
        yield f"Freed {_freed(result)} in {result.duration:.1f} s; writes were held for {_held(result)}"
    removed = []
    if result.manifests:
        removed.append(counted(result.manifests, "untagged manifest"))
    if result.repositories:
        removed.append(counted(result.repositories, "empty repository", "empty repositories"))
    if removed:
        yield f"{'Would remove' if dry_run else 'Removed'} {', '.join(removed)}"
    if result.pinned:
        yield f"Kept {counted(result.pinned, 'blob')} that the registry's collector would have deleted"
    if result.irrecoverable:
        lost = counted(result.irrecoverable, "deleted tag")
        yield f"{lost} {'could' if dry_run else 'can'} no longer be restored"
    if result.ended_writes:
        yield f"Restarted the registry to end {result.ended_writes}"
    for warning in result.warnings:
        yield f"Broken: {warning}"
    if plan is not None:
        yield from (f"blob {blob.digest} {blob.size}" for blob in plan.blobs)
        yield from (f"manifest {manifest}" for manifest in plan.manifests)
        yield from (f"repository {repository}" for repository in plan.repositories)


def cancelled_line(result: CollectionResult) -> str:
    """Return what to tell a person about a collection that they cancelled."""
    if result.outcome != Outcome.CANCELLED:
        return f"The garbage collection has ended ({result.outcome})"
    return "The garbage collection was cancelled" + (f" in the phase {result.phase}" if result.phase else "")


def status_properties(status: CollectionStatus) -> dict[str, Any]:
    """Return the running collection and the last one. Every property is there, so that -c can name it."""
    running = status.state == State.RUNNING
    last = status.last_result
    properties: dict[str, Any] = {
        "state": status.state,
        "phase": status.phase if running else None,
        "progress": f"{status.progress:.0%}" if running else None,
        "detail": status.detail if running else None,
        "started": status.started if running else None,
        "dry_run": status.options.dry_run if running and status.options else None,
        "last_outcome": last and last.outcome,
        "last_error": last and last.error,
        "last_started": last and last.started,
        "last_ended": last and last.ended,
        "last_dry_run": last and last.options.dry_run,
    }
    for name in (
        "blobs",
        "bytes",
        "manifests",
        "repositories",
        "pinned",
        "writes_held",
        "holds",
        "longest_hold",
    ):
        properties[f"last_{name}"] = getattr(last, name, None)
    properties["last_phases"] = last and " ".join(f"{phase}={spent}" for phase, spent in last.seconds.items())
    properties["warnings"] = last.warnings if last else []
    properties["last_ended_writes"] = last and last.ended_writes
    properties["last_irrecoverable"] = last and last.irrecoverable
    return properties


def _freed(result: CollectionResult) -> str:
    text = counted(result.blobs, "blob")
    return f"{text}, {counted(result.bytes, 'byte')}" if result.sizes_known else text


def _held(result: CollectionResult) -> str:
    """Return for how long writes were held, in all and at a time."""
    text = f"{result.writes_held:.1f} s"
    if result.holds > 1:
        text += f", in {result.holds} pieces of at most {result.longest_hold:.1f} s"
    return text
