"""`system registry-health-query`."""

from __future__ import annotations

import sys
from collections import Counter

import click

from sysreg_cli.cli.access import check_own_storage
from sysreg_cli.cli.invocation import Invocation, show_error
from sysreg_cli.cli.options import AGENT_VARIABLES, command
from sysreg_cli.cli.output import check_list, show_list
from sysreg_cli.errors import NotSupported, SettingsError
from sysreg_cli.health.results import Name, Remedy, Result, Status, failed, skipped

COLUMNS = ("Check", "Status", "Detail")


@command(
    "registry-health-query",
    columns=COLUMNS,
    variables=[*AGENT_VARIABLES, "SYSREG_REGISTRY"],
    sorts=True,
    examples=[
        ("system registry-health-query", "Say what is wrong with this controller, and what to do."),
        (
            "system registry-health-query --check space --check certificate",
            "For monitoring.",
        ),
        ("system registry-health-query --deep", "Read every blob as well, and name damaged tags."),
    ],
)
@click.option("--deep", is_flag=True, help="Read every blob as well; it may take hours, and disturbs nobody.")
@click.option(
    "--check",
    "checks",
    multiple=True,
    type=click.Choice([name.value for name in Name]),
    metavar="NAME",
    help=f"Make only this check (repeat for more): {', '.join(Name)}.",
)
@click.pass_obj
def query(invocation: Invocation, deep: bool, checks: tuple[str, ...]) -> None:
    """Say what is wrong with this controller, and what to do.

    Each check is a row: ok, warning, failed or skipped. A warning or a failure ends in what to do, with a
    command where there is one. The exit status is 0 if no check failed.

    Root needs neither Keystone nor running daemons. For other users the checks are skipped that only root
    can make. A test image is pushed, pulled and deleted; nothing of it stays.
    """
    check_list(invocation, COLUMNS)
    names = [name for name in Name if name in checks] or list(Name)
    results = _results(invocation, names, deep=deep or Name.BLOBS in checks)
    names = [name for name in Name if name in results]
    rows = [(str(name), str(results[name].status), results[name].detail) for name in names]
    show_list(invocation, COLUMNS, rows, ordered=True)
    number = Counter(result.status for result in results.values())[Status.FAILED]
    if number:
        sys.stdout.flush()  # the rows come first, also in a pipe
        named = ", ".join(name for name in names if results[name].status is Status.FAILED)
        show_error(f"{number} of {len(names)} checks failed: {named}")
        invocation.exit_code = 1


def _results(invocation: Invocation, names: list[Name], *, deep: bool) -> dict[Name, Result]:
    """Make the checks. Raises NotSupported on a worker, and for the registry of another controller.

    Settings that cannot be read are a failure, also where that check was not asked for.
    """
    try:
        settings = invocation.settings
    except SettingsError as error:
        refused = failed("; ".join(error.problems), Remedy("correct it, and apply it", "sysreg-deploy"))
        return {Name.SETTINGS: refused} | {
            name: skipped("see settings") for name in names if name is not Name.SETTINGS
        }
    if settings.cluster.is_worker:
        raise NotSupported(
            "this host is a worker, and the checks are about the controller",
            next_step="run the command there; system registry-host-list there has the workers",
        )
    check_own_storage(invocation)

    from sysreg_cli.cli.agent_client import AgentClient
    from sysreg_cli.health.checks import CHECKS
    from sysreg_cli.health.readings import Readings
    from sysreg_cli.health.runner import run
    from sysreg_cli.host.ownership import leave_groups

    leave_groups()
    readings = Readings(settings, lambda: AgentClient.from_invocation(invocation), deep=deep)
    return dict(run(readings, {name: CHECKS[name] for name in names}))
