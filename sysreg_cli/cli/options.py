"""How a command is declared, and the options that every command takes.

A command is declared with ``command(...)`` and gets the Invocation with ``click.pass_obj``. The options stand
before or behind the command's name (`system --timeout 5 registry-image-list` or `system registry-image-list
--timeout 5`). An option behind the name wins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from sysreg_cli.cli.global_options import TEXT_OPTIONS
from sysreg_cli.cli.invocation import Invocation
from sysreg_cli.errors import UsageError

_MAX_TIMEOUT = 86_400
FORMATS = ("table", "json", "yaml", "value", "csv")

#: the variables that a command reads when it calls the agent, or the registry
KEYSTONE_VARIABLES = tuple(
    option.variable
    for option in TEXT_OPTIONS
    if option.variable.startswith("OS_") and option.variable not in ("OS_INTERFACE", "OS_REGION_NAME")
)
AGENT_VARIABLES = (*KEYSTONE_VARIABLES, "SYSREG_AGENT", "SYSREG_CONF", "SYSREG_REGISTRY_CA")
REGISTRY_VARIABLES = (*KEYSTONE_VARIABLES, "SYSREG_CONF", "SYSREG_REGISTRY", "SYSREG_REGISTRY_CA")

#: each a term with its meaning
Terms = Sequence[tuple[str, str]]


class Command(click.Command):
    """A command with the global options, and with what help says beyond click's own."""

    #: (metavar, meaning) of each argument
    argument_help: Terms
    #: names for -c, and names of variables
    columns: Sequence[str]
    variables: Sequence[str]
    #: (command line, what it does)
    examples: Terms

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from sysreg_cli.cli.manual import write_epilog

        write_epilog(self, formatter)


def command(
    name: str,
    *,
    examples: Terms,
    argument_help: Terms = (),
    columns: Sequence[str] = (),
    variables: Sequence[str] = (),
    sorts: bool = False,
) -> Callable[[Callable[..., Any]], Command]:
    """Declare a command of `system`; see Command for the parameters. Its docstring is its help.

    A command with ``columns`` prints a result, and its help shows -f and -c. One that ``sorts`` prints a
    list, and takes --sort-column: it calls ``output.check_list`` before it asks anybody. Add each command
    to ``commands.COMMANDS``.
    """

    def declare(function: Callable[..., Any]) -> Command:
        declared = click.command(name, cls=Command)(function)
        declared.params += [_sort_option()] if sorts else []
        declared.params += [*_output_options(hidden=not columns), *global_options(hidden=True)]
        declared.argument_help, declared.columns = argument_help, columns
        declared.variables, declared.examples = variables, examples
        return declared

    return declare


class Number(click.IntRange):
    """The value of an option such as ``--keep 5``: a whole number between two limits.

    Every number of the command line is of this type or the two below, because click's own messages ("is not a
    valid integer range") do not say what is expected. ``of`` is what is counted.
    """

    def __init__(self, least: int, most: int, of: str = "") -> None:
        super().__init__(least, most)
        self._expected = f"a whole number{f' of {of}' if of else ''} from {least} to {most}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number. Raises UsageError."""
        try:
            return int(super().convert(value, param, ctx))
        except click.BadParameter:
            raise _refusal(param, f"{value!r} is not {self._expected}") from None


class Timeout(click.FloatRange):
    """The value of ``--timeout``: seconds, also a part of one."""

    def __init__(self) -> None:
        super().__init__(0, _MAX_TIMEOUT, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds. Raises UsageError."""
        try:
            seconds = float(super().convert(value, param, ctx))
        except click.BadParameter:
            seconds = 0.0
        if not seconds > 0:  # click takes "nan", too
            problem = f"{value!r} is not a number of seconds above 0 and up to {_MAX_TIMEOUT}"
            raise _refusal(param, problem)
        return seconds


class Time(click.types.StringParamType):
    """The value of an option such as ``--older-than 30d``, in seconds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # type: ignore[override]
        """Return the seconds. Raises UsageError."""
        from sysreg_cli.settings import duration

        try:
            return duration(value)
        except ValueError as error:
            raise _refusal(param, str(error)) from None


def _refusal(option: click.Parameter | None, problem: str) -> UsageError:
    return UsageError(f"{option.opts[0] if option else 'argument'}: {problem}")


def group_options() -> list[click.Parameter]:
    """Return the options that may stand before the command's name."""
    return [*_output_options(hidden=False), *global_options(hidden=False)]


def global_options(*, hidden: bool) -> list[click.Parameter]:
    """Return --debug, --timeout, and the options of ``global_options.py``."""
    return [
        _option("--debug", is_flag=True, hidden=hidden, help="Show the traceback of a failure."),
        _option(
            "--timeout",
            "given_timeout",
            type=Timeout(),
            metavar="SECONDS",
            hidden=hidden,
            help="Time to connect, and between two bytes of a response; 60 if not given.",
        ),
        *(
            _option(
                text.flag,
                metavar=text.metavar,
                hidden=hidden,
                callback=_set_text,
                help=f"{text.help}  [{text.variable}]",
            )
            for text in TEXT_OPTIONS
        ),
    ]


def _output_options(*, hidden: bool) -> list[click.Parameter]:
    formats = click.Choice(FORMATS)
    return [
        _option(
            "-f", "--format", type=formats, hidden=hidden, help="How the result is shown; table if not given."
        ),
        _option(
            "-c",
            "--column",
            "columns",
            multiple=True,
            metavar="NAME",
            hidden=hidden,
            help="Show only this column (repeat for more).",
        ),
    ]


def _sort_option() -> click.Option:
    return _option(
        "--sort-column",
        metavar="NAME[:desc]",
        help="Sort by this column; with :desc the largest comes first.",
    )


def _option(*names: str, **attributes: Any) -> click.Option:
    return click.Option(names, **{"expose_value": False, "callback": _set, **attributes})


def _set(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Set the attribute of the Invocation, if the option is on the command line."""
    if _is_given(context, parameter):
        setattr(context.ensure_object(Invocation), parameter.name or "", value)


def _set_text(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if _is_given(context, parameter):
        context.ensure_object(Invocation).texts[parameter.name or ""] = value


def _is_given(context: click.Context, parameter: click.Parameter) -> bool:
    source = context.get_parameter_source(parameter.name or "")
    return source is click.core.ParameterSource.COMMANDLINE
