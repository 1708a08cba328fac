"""`system help` and `system bash-completion`."""

from __future__ import annotations

import os
import sys

import click

from sysreg_cli.cli.options import command


@command(
    "help",
    argument_help=[("[COMMAND]", "The command to explain; without it, the program.")],
    examples=[("system help registry-image-delete", "Explain one command.")],
)
@click.argument("name", metavar="[COMMAND]", required=False, default="")
@click.pass_context
def show_help(context: click.Context, name: str) -> None:
    """Show the help of the program or of a command.

    Without COMMAND it lists the commands, and the options that all commands take.
    """
    root = context.find_root()
    if not name:
        click.echo(root.get_help())
        return
    group = root.command
    assert isinstance(group, click.Group)
    subject = group.get_command(root, name)
    if subject is None:
        from sysreg_cli.cli.main import suggestion

        raise click.UsageError(f"No such command '{name}'.{suggestion(name)}", ctx=root)
    with click.Context(subject, info_name=name, parent=root) as inner:
        click.echo(subject.get_help(inner))


@command("bash-completion", examples=[("system bash-completion | tr ' ' '\\n'", "Show one word per line.")])
def bash_completion() -> None:
    """Print all command and option words.

    If the platform has its own `system` further along PATH, its words are among them.
    """
    from sysreg_cli.cli.delegation import platform_words
    from sysreg_cli.cli.main import all_words

    click.echo(" ".join(sorted({*all_words(), *platform_words(os.environ, sys.argv[0])})))
