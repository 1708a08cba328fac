"""`system registry-image-prune`: removes tags by rules, with a reason for each tag."""

from __future__ import annotations

from typing import Any

import click

from sysreg_cli.cli.access import check_own_storage
from sysreg_cli.cli.invocation import Invocation, show_error
from sysreg_cli.cli.options import AGENT_VARIABLES, Number, Time, command
from sysreg_cli.cli.output import check_list, counted, readable, say, show_list, size
from sysreg_cli.errors import UsageError
from sysreg_cli.v1.prune import Pruning

COLUMNS = ("Image", "Decision", "Reason", "Unique")
# Seconds. A prune of 10,000 tags takes 10 s, and the agent answers when it is done.
_PRUNE_SECONDS = 900.0


@command(
    "registry-image-prune",
    argument_help=[("[IMAGE-GLOB...]", "The images; * stands for any text, also with /. Without it, all.")],
    columns=COLUMNS,
    variables=[*AGENT_VARIABLES, "SYSREG_REGISTRY"],
    sorts=True,
    examples=[
        (
            "system registry-image-prune --older-than 30d --keep 5 --dry-run",
            "Say which tags would go, and why.",
        ),
        ("system registry-image-prune 'ci/*' --match 'dev-*' --older-than 2w", "Remove old builds."),
        ("system registry-image-prune --policy", "Apply the rules of sysreg.conf."),
    ],
)
@click.option(
    "--keep",
    type=Number(0, 999_999),
    metavar="N",
    help="Keep the N newest tags of each image; those of one digest count once.",
)
@click.option(
    "--older-than",
    type=Time(),
    metavar="TIME",
    help="Keep tags that were pushed within this time, such as 12h, 30d or 8w.",
)
@click.option(
    "--match", multiple=True, metavar="GLOB", help="Keep tags that do not match it (repeat for more)."
)
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@click.option(
    "--at-most",
    type=Number(0, 100, "percent"),
    metavar="PERCENT",
    help="Keep all tags of an image of which more would go; 50 if not given.",
)
@click.option("--yes", is_flag=True, help="Remove however many tags it is.")
@click.option("--policy", is_flag=True, help="Apply the sections [retention NAME] of sysreg.conf.")
@click.argument("images", metavar="[IMAGE-GLOB...]", nargs=-1)
@click.pass_obj
def prune(
    invocation: Invocation,
    images: tuple[str, ...],
    keep: int | None,
    older_than: int | None,
    match: tuple[str, ...],
    dry_run: bool,
    at_most: int | None,
    yes: bool,
    policy: bool,
) -> None:
    """Remove tags of images by rules.

    A tag goes if all conditions that are given let it go: --keep, --older-than and --match; one of them is
    needed. Each tag is shown with the reason. What cannot be known is kept, and so is what protected in
    sysreg.conf names.

    Only tags are removed. `system registry-garbage-collect --delete-untagged` frees what no tag needs then.
    Until it has run, the images can still be pulled by their digests.
    """
    rule = {"image": images, "match": match, "keep": keep, "older_than": older_than, "at_most": at_most}
    given = {name: value for name, value in rule.items() if value not in (None, ())}
    _check_usage(invocation, given, policy=policy)
    check_own_storage(invocation)

    from sysreg_cli.cli.agent_client import AgentClient

    flags = {"dry_run": dry_run, "yes": yes, "policy": policy}
    query = {**given, **{name: True for name, is_given in flags.items() if is_given}}
    timeout = invocation.given_timeout or _PRUNE_SECONDS
    pruning = AgentClient.from_invocation(invocation).prune(query, read_timeout=timeout)
    _show(invocation, pruning)


def _check_usage(invocation: Invocation, given: dict[str, Any], *, policy: bool) -> None:
    """Raise UsageError for what makes no sense, before anybody is asked."""
    check_list(invocation, COLUMNS)
    if policy and given:
        raise UsageError("--policy takes no images and no conditions: the rules are in sysreg.conf")
    if not policy and given.keys().isdisjoint(("keep", "older_than", "match")):
        raise UsageError(
            "--keep, --older-than or --match has to say which tags go",
            next_step="or give --policy for the rules of sysreg.conf",
        )
    if any(not glob for name in ("image", "match") for glob in given.get(name, ())):
        raise UsageError("a glob is empty")


def _show(invocation: Invocation, pruning: Pruning) -> None:
    rows = [(it.image, it.decision.value, it.reason, size(it.unique)) for it in pruning.tags]
    show_list(invocation, COLUMNS, rows)
    done = "would be removed" if pruning.dry_run else "removed"
    say(invocation, f"{pruning.removed} of {counted(len(rows), 'tag')} {done}")
    if pruning.removed:
        freed = readable(pruning.freed)
        say(invocation, f"system registry-garbage-collect --delete-untagged then frees at least {freed}")
    for problem in pruning.problems:
        show_error(problem)
        invocation.exit_code = 1
