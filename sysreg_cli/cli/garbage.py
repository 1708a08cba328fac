"""`system registry-garbage-collect`: starts, watches and ends the agent's garbage collection."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from sysreg_cli.cli.options import Invocation, command, show_error
from sysreg_cli.cli.output import check_columns, counted, say, show_properties, show_report
from sysreg_cli.errors import (
    NotAuthenticated,
    NotAuthorized,
    NotFound,
    ProtocolError,
    SysregError,
    TooManyRequests,
    Unavailable,
    UsageError,
)

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

    from sysreg_cli.cli.agent_client import AgentClient

_START = "/v1/registry_image"
_STATUS = "/v1/registry_image/garbage_collect"
_INTERRUPTED = 130
# A cancelled collection has to end the collector, remove pins, and may have to restart the registry.
_CANCEL_SECONDS = 120.0
COLUMNS = (
    "outcome",
    "dry_run",
    "blobs",
    "bytes",
    "manifests",
    "repositories",
    "pinned",
    "seconds",
    "writes_held",
    "holds",
    "longest_hold",
    "phases",
    "warnings",
)
_FIRST_PAUSE, _LAST_PAUSE = 0.05, 0.5
_STEPS = 1000
# Short, so that what is waited for stands beside it on a line of 80 characters.
_BAR_WIDTH = 16


@command("registry-garbage-collect", output=True)
@click.option("--dry-run", is_flag=True, help="Only list what would be removed.")
@click.option(
    "--delete-untagged",
    is_flag=True,
    help="Remove images that no tag reaches any more, not even in an index.",
)
@click.option(
    "--grace",
    type=click.IntRange(0, 999_999_999),
    metavar="SECONDS",
    help="Keep what pushes under way have uploaded so long ago or less; 3600 if not set otherwise.",
)
@click.option("--no-wait", is_flag=True, help="Return once it has started.")
@click.option("--status", is_flag=True, help="Show the running collection, or how the last one ended.")
@click.option("--cancel", is_flag=True, help="End the running collection; nothing is lost.")
@click.pass_obj
def collect(
    invocation: Invocation,
    dry_run: bool,
    delete_untagged: bool,
    grace: int | None,
    no_wait: bool,
    status: bool,
    cancel: bool,
) -> None:
    """Free the space of deleted images.

    Images can be pulled all the time. Pushes wait for the collection and go on after it; what they have
    uploaded so far is kept.
    """
    _check(
        status=status, cancel=cancel, no_wait=no_wait, others=dry_run or delete_untagged or grace is not None
    )
    if dry_run and no_wait:
        raise UsageError("--dry-run and --no-wait exclude each other")
    if not status:
        check_columns(invocation, ("id", "outcome") if no_wait or cancel else COLUMNS)

    from sysreg_cli.cli.agent_client import AgentClient

    agent = AgentClient.from_environment(invocation)
    if status:
        _show_status(invocation, agent.fetch("GET", _STATUS))
        return
    if cancel:
        _cancel(invocation, agent)
        return
    words: dict[str, str] = {"garbage_collect": "True"}
    if dry_run:
        words["dry_run"] = "True"
    if delete_untagged:
        words["delete_untagged"] = "True"
    if grace is not None:
        words["grace"] = str(grace)
    identifier = agent.request("POST", _START, params=words).headers.get("X-Collection-Id", "")
    say(invocation, "Running docker registry garbage collect")
    if no_wait:
        show_report(invocation, [{"id": identifier, "outcome": "started"}])
        return
    try:
        answer = _wait(invocation, agent, identifier, plan=dry_run)
    except KeyboardInterrupt:
        show_error("stopped waiting: the collection goes on; see --status, or end it with --cancel")
        invocation.exit_code = _INTERRUPTED
        return
    _show_end(invocation, _result(answer, identifier), answer.get("plan") or {})


def _check(*, status: bool, cancel: bool, no_wait: bool, others: bool) -> None:
    if status and cancel:
        raise UsageError("--status and --cancel exclude each other")
    if (status or cancel) and (no_wait or others):
        raise UsageError(f"--{'status' if status else 'cancel'} takes no other option of this command")


def _wait(
    invocation: Invocation, agent: AgentClient, identifier: str, *, plan: bool, most: float = float("inf")
) -> dict[str, Any]:
    """The status once the collection has ended. An agent that is busy or being restarted is waited for."""
    words = {"plan": "True"} if plan else {}
    pause = _FIRST_PAUSE
    deadline = time.monotonic() + most
    unanswered: float | None = None
    renewed = False
    with _bar() as show:
        while True:
            try:
                answer = agent.fetch("GET", _STATUS, params=words)
                unanswered, renewed = None, False
            except (NotAuthenticated, NotAuthorized) as error:
                # A long collection outlives the token that it was started with.
                if renewed:
                    raise type(error)(
                        f"{error.message}: the wait is over, but the collection goes on",
                        next_step="look with --status",
                    ) from None
                agent.renew_token()
                renewed = True
                continue
            except (Unavailable, TooManyRequests) as error:
                unanswered = unanswered or time.monotonic()
                if time.monotonic() - unanswered > invocation.timeout:
                    raise Unavailable(
                        f"{error.message}: how the collection ended is not known",
                        next_step="look with --status when the agent answers again",
                    ) from None
                answer = {"state": "running", "id": identifier}
            if answer.get("state") != "running" or answer.get("id") != identifier:
                show({"phase": "end", "progress": 1.0})
                return answer
            if time.monotonic() > deadline:
                raise SysregError(
                    f"the collection has not ended within {most:g} s", next_step="look with --status"
                )
            show(answer)
            time.sleep(pause)
            pause = min(pause * 1.5, _LAST_PAUSE)


@contextlib.contextmanager
def _bar() -> Iterator[Any]:
    """What shows a status as a bar on a terminal, and does nothing elsewhere."""
    if not sys.stderr.isatty() or os.environ.get("TERM") in ("dumb", None):
        yield lambda answer: None
        return
    detail = ""
    bar: ProgressBar[int]
    with click.progressbar(
        length=_STEPS,
        label="scan",
        file=sys.stderr,
        show_eta=False,
        width=_BAR_WIDTH,
        item_show_func=lambda item: detail,
    ) as bar:

        def show(answer: dict[str, Any]) -> None:
            nonlocal detail
            if "progress" not in answer:
                return
            bar.label = str(answer.get("phase", ""))
            # Cut: a line that wraps is drawn again and again instead of in its place.
            room = shutil.get_terminal_size().columns - len(bar.label) - _BAR_WIDTH - len("  []  100%  ") - 1
            detail = str(answer.get("detail", ""))[: max(room, 0)]
            bar.update(max(int(float(answer["progress"]) * _STEPS) - bar.pos, 0))
            bar.render_progress()

        yield show


def _cancel(invocation: Invocation, agent: AgentClient) -> None:
    before = agent.fetch("GET", _STATUS)
    if before.get("state") != "running":
        raise NotFound("no garbage collection is under way")
    identifier = str(before.get("id", ""))
    agent.request("DELETE", _STATUS)
    result = _result(_wait(invocation, agent, identifier, plan=False, most=_CANCEL_SECONDS), identifier)
    show_report(invocation, [{"id": identifier, "outcome": result["outcome"], "error": result["error"]}])
    if result["outcome"] == "cancelled":
        # "the collection was cancelled in the phase drain"
        say(invocation, f"The garbage {result['error'].removeprefix('the ')}")
    else:
        say(invocation, f"The garbage collection has ended ({result['outcome']})")


def _result(answer: dict[str, Any], identifier: str) -> dict[str, Any]:
    for result in answer.get("results", ()):
        if result.get("id") == identifier:
            return dict(result)
    raise ProtocolError("the agent doesn't know how the collection ended", next_step="see its journal")


def _show_end(invocation: Invocation, result: dict[str, Any], plan: dict[str, Any]) -> None:
    """Report what was done. Raises SysregError if that isn't what was asked for."""
    freed = counted(result["blobs"], "blob")
    if result["sizes_known"]:
        freed += f", {counted(result['bytes'], 'byte')}"
    if result["outcome"] != "done":
        partly = f" (until then freed: {freed})" if result["blobs"] and not _is_dry(result) else ""
        raise SysregError(f"garbage collection {result['outcome']}: {result['error']}{partly}")
    if _is_dry(result):
        say(invocation, f"Would free {freed}")
    else:
        say(invocation, f"Freed {freed} in {result['duration']:.1f} s; writes were held for {_held(result)}")
    removed = [
        counted(result[name], *words)
        for name, words in (
            ("manifests", ("untagged manifest",)),
            ("repositories", ("empty repository", "empty repositories")),
        )
        if result[name]
    ]
    if removed:
        say(invocation, f"{'Would remove' if _is_dry(result) else 'Removed'} {', '.join(removed)}")
    if result["pinned"]:
        say(invocation, f"Kept {counted(result['pinned'], 'blob')} that pushes under way may need")
    for warning in result["warnings"]:
        say(invocation, f"Broken: {warning}")
    for blob in plan.get("blobs", ()):
        say(invocation, f"blob {blob['digest']} {blob['size']}")
    for manifest in plan.get("manifests", ()):
        say(invocation, f"manifest {manifest}")
    for repository in plan.get("repositories", ()):
        say(invocation, f"repository {repository}")
    report: dict[str, Any] = {
        "outcome": result["outcome"],
        "dry_run": _is_dry(result),
        "blobs": result["blobs"],
        "bytes": result["bytes"] if result["sizes_known"] else None,
        "manifests": result["manifests"],
        "repositories": result["repositories"],
        "pinned": result["pinned"],
        "seconds": result["duration"],
        "writes_held": result["writes_held"],
        "holds": result["holds"],
        "longest_hold": result["longest_hold"],
        "phases": result["seconds"],
        "warnings": result["warnings"],
    }
    if plan and not invocation.columns and invocation.format in ("json", "yaml"):  # it fits into no column
        report["plan"] = plan
    show_report(invocation, [report])


def _held(result: dict[str, Any]) -> str:
    """How long writes were held in all, and at a time."""
    text = f"{result['writes_held']:.1f} s"
    if result["holds"] > 1:
        text += f", in {result['holds']} pieces of at most {result['longest_hold']:.1f} s"
    return text


def _is_dry(result: dict[str, Any]) -> bool:
    return bool(result["options"]["dry_run"])


def _show_status(invocation: Invocation, answer: dict[str, Any]) -> None:
    """The running collection and the last one; every property in any case, for who asks for it with -c."""
    running = answer if answer["state"] == "running" else {}
    last = answer.get("last_result") or {}
    shown: dict[str, Any] = {
        "state": answer["state"],
        "phase": running.get("phase"),
        "progress": f"{float(running['progress']):.0%}" if running else None,
        "detail": running.get("detail"),
        "started": running.get("started"),
        "dry_run": running["options"]["dry_run"] if running else None,
        "last_outcome": last.get("outcome"),
        "last_error": last.get("error"),
        "last_started": last.get("started"),
        "last_ended": last.get("ended"),
        "last_dry_run": _is_dry(last) if last else None,
        "last_blobs": last.get("blobs"),
        "last_bytes": last.get("bytes"),
        "last_manifests": last.get("manifests"),
        "last_repositories": last.get("repositories"),
        "last_pinned": last.get("pinned"),
        "last_writes_held": last.get("writes_held"),
        "last_holds": last.get("holds"),
        "last_longest_hold": last.get("longest_hold"),
        "last_phases": " ".join(f"{phase}={seconds}" for phase, seconds in last["seconds"].items())
        if last
        else None,
        "warnings": last.get("warnings", []),
    }
    show_properties(invocation, shown)
