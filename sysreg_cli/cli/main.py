"""The `system` command: find the command, run it, and turn every outcome into an exit status and a line."""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from sysreg_cli import __version__
from sysreg_cli.cli.commands import COMMANDS
from sysreg_cli.cli.invocation import Invocation, show_error
from sysreg_cli.cli.options import Command, group_options
from sysreg_cli.errors import SysregError

INTERRUPTED = 130


class _Stopped(Exception):
    """Carries an exception past click, which would print an empty line or end the process."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__()
        self.cause = cause


class LazyGroup(click.Group):
    """A group that imports a command when it runs it. Listing the commands imports nothing."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, OSError) as error:
            raise _Stopped(error) from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        target, _ = entry
        module, _, attribute = target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        gc.freeze()  # what was imported stays
        gc.enable()
        if not isinstance(command, Command):
            raise TypeError(f"{target} is not a command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"No such command '{args[0]}'.{suggestion(*args)}", ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


system = LazyGroup(
    "system",
    help="Manage the local container registry of this controller.",
    params=[
        *group_options(),
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=lambda ctx, _, value: _show_version(ctx) if value else None,
            help="Show the version.",
        ),
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    subcommand_metavar="COMMAND [ARGUMENTS]",
)


def suggestion(word: str, *following: str) -> str:
    """Return the end of a message that names similar commands; "" if none is similar.

    ``following`` are the arguments after ``word``: somebody may type a command with blanks in its name.
    """
    import difflib

    typed = ["-".join([word, *following[:count]]).lower() for count in range(3)]
    near = [name for name in typed if name in COMMANDS] or difflib.get_close_matches(
        word.lower(), COMMANDS, n=1
    )
    near = near or [name for name in COMMANDS if word.lower() in name]
    return f" Did you mean {' or '.join(near)}?" if near else ""


def _show_version(context: click.Context) -> None:
    click.echo(f"system {__version__}")
    context.exit()


def run(arguments: Sequence[str], invocation: Invocation | None = None) -> int:
    """Run one command and return the exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.

    Each failure is one line on stderr. Only --debug shows a traceback.
    """
    invocation = invocation or Invocation()
    with contextlib.suppress(AttributeError, ValueError):
        # a name that the terminal's character set lacks is no reason to fail
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = _run(arguments, invocation)
        sys.stdout.flush()
    except BrokenPipeError:
        # the reader went away (`| head -1`): nobody reads an error, and a second flush would fail again
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115, PTH123
        return 1
    except OSError as error:
        # an error without a file name that means "full" or "broken" is about standard output
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
        name = error.filename or ("standard output" if full else "the operating system refused")
        return _fail(invocation, f"{name}: {error.strerror or error}", 1)
    return code


def _run(arguments: Sequence[str], invocation: Invocation) -> int:
    try:
        result = system.main(args=list(arguments), prog_name="system", standalone_mode=False, obj=invocation)
    except click.UsageError as error:
        # click 8.1 (Debian 13) prints this help by itself, and knows no such error
        if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
            print(error.ctx.get_help() if error.ctx else error.format_message(), file=sys.stderr)
            return 2
        where = error.ctx.command_path if error.ctx and error.ctx.parent else "system"
        advice = where.replace("system ", "system help ", 1) if " " in where else "system --help"
        # click breaks some of its messages into lines
        message = " ".join(error.format_message().split()).rstrip(".")
        return _fail(invocation, f"{message} (see `{advice}`)", 2)
    except click.ClickException as error:
        return _fail(invocation, error.format_message(), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _fail(invocation, "interrupted", INTERRUPTED)
    except _Stopped as stopped:
        if isinstance(stopped.cause, KeyboardInterrupt):
            return _fail(invocation, str(stopped.cause) or "interrupted", INTERRUPTED)
        raise stopped.cause from None
    except SysregError as error:
        return _fail(invocation, str(error), error.exit_code)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        return _fail(invocation, f"internal error, please report it: {what}; --debug shows where", 1)
    # click returns the code of Exit, or what the command's function returned, which is nothing
    return max(result if isinstance(result, int) else 0, invocation.exit_code)


def _fail(invocation: Invocation, message: str, code: int) -> int:
    with contextlib.suppress(OSError):
        if invocation.debug:
            traceback.print_exc()
        show_error(message)
    return code


def all_words() -> list[str]:
    """Return all command and option words, for completion."""
    context = click.Context(system, info_name="system")
    words: set[str] = set(COMMANDS)
    commands: list[Any] = [system, *(system.get_command(context, name) for name in COMMANDS)]
    for command in commands:
        for parameter in command.get_params(context):
            if isinstance(parameter, click.Option):
                words.update(parameter.opts)
    return sorted(words)
