"""The man page system(1), from the click commands and ``sysreg_cli/cli/manual.py``."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Mapping

import click

from sysreg_cli import __version__
from sysreg_cli.cli.manual import ENVIRONMENT, EXIT_CODES, PAGES


def render(system: click.Group, commands: Mapping[str, click.Command]) -> str:
    """The page in man(7) macros; the same text for the same commands, so that it can be compared."""
    lines = [
        '.\\" Written by `python -m tools.write_reference`; change the commands, not this file.',
        f'.TH SYSTEM 1 2026-11-23 "sysreg {__version__}" "User commands"',
        ".SH NAME",
        "system \\- manage the local container registry of this controller",
        ".SH SYNOPSIS",
        ".B system",
        "[OPTIONS] COMMAND [ARGUMENTS]",
        ".SH DESCRIPTION",
        *list(paragraphs(DESCRIPTION))[1:],
        ".SH OPTIONS",
        "They may stand before the command or behind it; behind wins.",
        *terms(dict(options(system))),
        ".SH COMMANDS",
    ]
    common = list(options(system))
    for name, command in commands.items():
        lines += _command(name, command, common)
    lines += [".SH EXIT STATUS", *terms({str(code): text for code, text in EXIT_CODES.items()})]
    lines += [".SH ENVIRONMENT", "An option wins over its variable.", *terms(ENVIRONMENT)]
    lines += [".SH FILES", *terms(FILES)]
    return "\n".join(lines) + "\n"


DESCRIPTION = """\
Lists and deletes the images of the local registry, frees their space, and installs certificates. Data goes
to standard output, everything else to standard error, which stays empty on success unless it is a terminal.

Where another program named system stands further along PATH, a command that is not listed here is handed
to it.
"""

FILES = {
    "/etc/sysreg/sysreg.conf": "Settings of the registry, the daemons and this command.",
    "/run/sysreg/agent.sock": "Where the agent listens.",
    "~/.cache/sysreg/": "Image names for the completion of the shell.",
}


def _command(name: str, command: click.Command, common: list[tuple[str, str]]) -> Iterator[str]:
    page = PAGES[name]
    context = click.Context(command, info_name=f"system {name}")
    pieces = command.collect_usage_pieces(context)
    yield f".SS {escaped(name)}"
    yield f".B system {escaped(name)}"
    yield from _wrapped(" ".join(pieces))
    yield from paragraphs(inspect.cleandoc(command.help or ""))
    yield from terms(dict(page.arguments))
    yield from terms(dict(option for option in options(command) if option not in common))
    if page.columns:
        yield ".PP"
        yield from _wrapped(f"Columns: {', '.join(page.columns)}.")
    for line, meaning in page.examples:
        yield from (".PP", *_wrapped(meaning), ".PP", ".RS 4", ".nf", escaped(line), ".fi", ".RE")


def options(command: click.Command) -> Iterator[tuple[str, str]]:
    for parameter in command.get_params(click.Context(command)):
        record = parameter.get_help_record(click.Context(command))
        if record is not None and isinstance(parameter, click.Option):
            yield record


def terms(terms: Mapping[str, str]) -> Iterator[str]:
    for term, meaning in terms.items():
        yield ".TP"
        yield f".B {escaped(term)}"
        yield from _wrapped(meaning)


def paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.replace("\b\n", "").strip().split("\n\n"):
        yield ".PP"
        yield from _wrapped(paragraph)


def _wrapped(text: str) -> Iterator[str]:
    """Short lines, as mandoc's lint wants them; escapes make them a little longer."""
    for line in textwrap.wrap(" ".join(text.split()), 68, break_long_words=False, break_on_hyphens=False):
        yield escaped(line)


def escaped(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return "\\&" + text if text.startswith((".", "'")) else text
