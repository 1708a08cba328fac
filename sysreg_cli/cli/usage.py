"""`system registry-usage`."""

from __future__ import annotations

from typing import Any

import click

from sysreg_cli.cli.access import check_own_storage, own_hosts
from sysreg_cli.cli.invocation import Invocation
from sysreg_cli.cli.options import AGENT_VARIABLES, command
from sysreg_cli.cli.output import check_columns, check_list, names, show_list, show_properties, size, time
from sysreg_cli.errors import InvalidReference, UsageError
from sysreg_cli.reference import parse
from sysreg_cli.v1.usage import Grouping, Usage, UsageRow


def _properties(usage: Usage) -> dict[str, Any]:
    return {
        "size": size(usage.size),
        "free": size(usage.free),
        "images": usage.images,
        "tags": usage.tags,
        "bytes_referenced": size(usage.bytes_referenced),
        "bytes_untagged": size(usage.bytes_untagged),
        "bytes_unreferenced": size(usage.bytes_unreferenced),
        "bytes_in_uploads": size(usage.bytes_in_uploads),
        "freed_by_collection": size(usage.freed_by_collection),
        "freed_with_delete_untagged": size(usage.freed_with_delete_untagged),
        "last_collection": time(usage.last_collection),
        "last_collection_outcome": usage.last_collection_outcome,
        "growth_per_day": size(usage.growth_per_day),
        "full_on": usage.full_on,
        "as_of": time(usage.as_of),
    }


_PROPERTIES = tuple(_properties(Usage("", images=0, tags=0, bytes_referenced=0)))
_COLUMNS = {
    Grouping.IMAGE: ("Image Name", "Tags", "Size", "Unique", "Shared With", "Last Pushed"),
    Grouping.USER: ("User", "Images", "Tags", "Size", "Unique"),
    Grouping.TAG: ("Image Tag", "Digest", "Size", "Unique", "Last Pushed"),
}
USAGE_COLUMNS = tuple(
    dict.fromkeys([*_PROPERTIES, "warnings", *(c for names in _COLUMNS.values() for c in names)])
)


@command(
    "registry-usage",
    argument_help=[("[IMAGE]", "With --by tag: the image whose tags are shown.")],
    columns=USAGE_COLUMNS,
    variables=[*AGENT_VARIABLES, "SYSREG_REGISTRY"],
    sorts=True,
    examples=[
        ("system registry-usage", "Show where the space went, and what a collection would free."),
        ("system registry-usage --by image --sort-column Unique:desc", "Show what is worth deleting."),
        ("system registry-usage --by tag docker.io/starlingx/app", "Show what each tag takes alone."),
    ],
)
@click.option(
    "--by",
    type=click.Choice([group.value for group in Grouping]),
    help="Show one row for each image, user or tag.",
)
@click.argument("image", metavar="[IMAGE]", required=False, default="")
@click.pass_obj
def usage(invocation: Invocation, by: str | None, image: str) -> None:
    """Show where the space of the registry went.

    Size is what an image, a user or a tag reaches, each blob once. Unique is what only it reaches: that is
    what its delete and a collection free. The agent reads the storage, so the figures are exact.
    """
    group = Grouping(by) if by else None
    repository = _check_usage(invocation, group, image)
    check_own_storage(invocation)

    from sysreg_cli.cli.agent_client import AgentClient

    found = AgentClient.from_invocation(invocation).usage(group, repository)
    if group is None:
        show_properties(invocation, _properties(found), warnings=found.warnings)
        return
    show_list(invocation, _COLUMNS[group], [_cells(group, row) for row in found.rows])


def _check_usage(invocation: Invocation, group: Grouping | None, image: str) -> str:
    """Return the name of the image, "" without one. Raises UsageError, InvalidReference."""
    if group is Grouping.TAG and not image:
        raise UsageError("--by tag needs an image", next_step="give its name: --by tag IMAGE")
    if group is not Grouping.TAG and image:
        raise UsageError(f"{image}: only --by tag takes an image")
    if group is not None:
        check_list(invocation, _COLUMNS[group])
    elif invocation.sort_column:
        raise UsageError("--sort-column sorts rows", next_step="give --by, too")
    else:
        check_columns(invocation, [*_PROPERTIES, "warnings"])
    if not image:
        return ""
    parsed = parse(image, own_hosts(invocation))
    if parsed.tag or parsed.digest:
        raise InvalidReference(
            f"{image}: has a tag or a digest, and --by tag takes only the name of an image",
            next_step=f"try {parsed.repository}",
        )
    return parsed.repository


def _cells(group: Grouping, row: UsageRow) -> list[Any]:
    sizes = [size(row.size), size(row.unique)]
    match group:
        case Grouping.IMAGE:
            return [row.name, row.tags, *sizes, names(row.shared_with, most=2), time(row.last_pushed)]
        case Grouping.USER:
            return [row.name, row.images, row.tags, *sizes]
        case Grouping.TAG:
            return [row.name, row.digest, *sizes, time(row.last_pushed)]
