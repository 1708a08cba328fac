"""`system registry-garbage-collect`: starts, watches and cancels the agent's garbage collection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sysreg_cli.cli.collection_report import (
    COLUMNS,
    cancelled_line,
    lines,
    report,
    require_done,
    status_properties,
)
from sysreg_cli.cli.collection_watch import CollectionWatch, result_of
from sysreg_cli.cli.invocation import Invocation, show_error
from sysreg_cli.cli.main import INTERRUPTED
from sysreg_cli.cli.options import AGENT_VARIABLES, Number, Time, command
from sysreg_cli.cli.output import check_columns, say, show_properties, show_report
from sysreg_cli.errors import NotFound, UsageError
from sysreg_cli.settings import MAX_GRACE
from sysreg_cli.v1 import wire
from sysreg_cli.v1.collections import CollectionPlan, CollectionResult, State

if TYPE_CHECKING:
    from sysreg_cli.cli.agent_client import AgentClient

# a cancelled collection ends the collector, removes its pins, and may have to restart the registry
_CANCEL_SECONDS = 120.0
_START_COLUMNS = ("id", "outcome")
_CANCEL_COLUMNS = ("id", "outcome", "error")


@command(
    "registry-garbage-collect",
    columns=COLUMNS,
    variables=[*AGENT_VARIABLES, "TERM"],
    examples=[
        ("system registry-garbage-collect --dry-run", "Say how much a collection would free."),
        ("system registry-garbage-collect", "Free the space, and wait until it is done."),
        ("system registry-garbage-collect --keep-deleted 24h", "Keep what was deleted in the last 24 hours."),
        ("system registry-garbage-collect --status", "Show the running collection, or the last one."),
    ],
)
@click.option("--dry-run", is_flag=True, help="Only list what would be removed.")
@click.option(
    "--delete-untagged",
    is_flag=True,
    help="Remove also images that no tag reaches any more, not even through an index.",
)
@click.option(
    "--grace",
    type=Number(0, MAX_GRACE, "seconds"),
    metavar="SECONDS",
    help="Keep content that pushes under way have uploaded in the last SECONDS; if not given,"
    " collect_grace of sysreg.conf, which is 3600 by default.",
)
@click.option(
    "--keep-deleted",
    type=Time(),
    metavar="TIME",
    help="Keep what tags need that were deleted within this time, such as 24h; without it, no deleted tag"
    " can be restored afterwards.",
)
@click.option("--no-wait", is_flag=True, help="Start the collection, and do not wait for its end.")
@click.option("--status", is_flag=True, help="Show the running collection, or how the last one ended.")
@click.option("--cancel", is_flag=True, help="Cancel the running collection; nothing is lost.")
@click.pass_obj
def collect(
    invocation: Invocation,
    dry_run: bool,
    delete_untagged: bool,
    grace: int | None,
    keep_deleted: int | None,
    no_wait: bool,
    status: bool,
    cancel: bool,
) -> None:
    """Free the space of deleted images.

    Images can be pulled all the time. Pushes wait for the collection and go on after it. What they uploaded
    within the grace time is kept. Tags that were deleted before cannot be restored afterwards, unless
    --keep-deleted spares them.
    """
    others = no_wait or dry_run or delete_untagged or grace is not None or keep_deleted is not None
    _check_usage(status=status, cancel=cancel, others=others, contradiction=dry_run and no_wait)
    if not status:
        check_columns(invocation, _CANCEL_COLUMNS if cancel else _START_COLUMNS if no_wait else COLUMNS)

    from sysreg_cli.cli.agent_client import AgentClient

    agent = AgentClient.from_invocation(invocation)
    if status:
        show_properties(invocation, status_properties(agent.collection_status()))
        return
    if cancel:
        _cancel(invocation, agent)
        return
    identifier = agent.start_collection(
        dry_run=dry_run, delete_untagged=delete_untagged, grace=grace, keep_deleted=keep_deleted
    )
    say(invocation, "Running docker registry garbage collect")
    if no_wait:
        show_report(invocation, [dict(zip(_START_COLUMNS, (identifier, "started"), strict=True))])
        return
    watch = CollectionWatch(agent, identifier, patience=invocation.timeout, plan=dry_run)
    try:
        status_after = watch.wait()
    except KeyboardInterrupt:
        show_error("stopped waiting: the collection goes on; see --status, or end it with --cancel")
        invocation.exit_code = INTERRUPTED
        return
    _show_end(invocation, result_of(status_after, identifier), status_after.plan)


def _check_usage(*, status: bool, cancel: bool, others: bool, contradiction: bool) -> None:
    if status and cancel:
        raise UsageError("--status and --cancel exclude each other")
    if (status or cancel) and others:
        raise UsageError(f"--{'status' if status else 'cancel'} takes no other option of this command")
    if contradiction:
        raise UsageError("--dry-run and --no-wait exclude each other")


def _cancel(invocation: Invocation, agent: AgentClient) -> None:
    before = agent.collection_status()
    if before.state != State.RUNNING:
        raise NotFound("no garbage collection is under way")
    agent.cancel_collection()
    after = CollectionWatch(agent, before.id, patience=invocation.timeout).wait(_CANCEL_SECONDS)
    result = result_of(after, before.id)
    values = (result.id, result.outcome, result.error)
    show_report(invocation, [dict(zip(_CANCEL_COLUMNS, values, strict=True))])
    say(invocation, cancelled_line(result))


def _show_end(invocation: Invocation, result: CollectionResult, plan: CollectionPlan | None) -> None:
    require_done(result)
    for line in lines(result, plan):
        say(invocation, line)
    shown = report(result)
    # the plan does not fit into a column
    if plan is not None and not invocation.columns and invocation.format in ("json", "yaml"):
        shown["plan"] = wire.to_json(plan)
    show_report(invocation, [shown])
