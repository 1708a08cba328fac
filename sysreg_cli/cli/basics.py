"""`system help` and `system bash-completion`."""

from __future__ import annotations

import os
import sys

import click

from sysreg_cli.cli.options import command


@command("help")
@click.argument("name", metavar="[COMMAND]", required=False, default="")
@click.pass_context
def show_help(context: click.Context, name: str) -> None:
    """Show the help of the program or of a command.

    Without COMMAND: the commands and the options that all of them take.
    """
    root = context.find_root()
    if not name:
        click.echo(root.get_help())
        return
    group = root.command
    assert isinstance(group, click.Group)
    found = group.get_command(root, name)
    if found is None:
        from sysreg_cli.cli.main import suggestion

        raise click.UsageError(f"No such command '{name}'.{suggestion(name)}", ctx=root)
    with click.Context(found, info_name=name, parent=root) as inner:
        click.echo(found.get_help(inner))


@command("bash-completion")
def bash_completion() -> None:
    """Print all command and option words.

    Those of the platform's own `system`, where there is one further along PATH, are among them.
    """
    from sysreg_cli.cli.handover import platform_words
    from sysreg_cli.cli.main import words

    click.echo(" ".join(sorted({*words(), *platform_words(os.environ, sys.argv[0])})))
