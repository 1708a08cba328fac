"""The man page system(1), from the click commands and ``sysreg_cli/cli/manual.py``; and man(7) macros."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from sysreg_cli import __version__
from sysreg_cli.cli.manual import ENVIRONMENT, EXIT_CODES
from sysreg_cli.cli.options import Command

CHANGELOG = Path(__file__).resolve().parent.parent / "CHANGELOG.rst"


def render(system: click.Group, commands: Mapping[str, Command]) -> str:
    """Return the page in man(7) macros; the same text for the same commands, so that it can be compared."""
    lines = [
        *head("system", 1, "manage the local container registry of this controller", "User commands"),
        ".SH SYNOPSIS",
        ".B system",
        "[OPTIONS] COMMAND [ARGUMENTS]",
        ".SH DESCRIPTION",
        *list(paragraphs(DESCRIPTION))[1:],
        ".SH OPTIONS",
        "They may stand before the command or behind it.",
        "An option behind the command wins.",
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
to standard output, and everything else to standard error. When a command succeeds, standard error is empty
unless it is a terminal.

If PATH has another program named system further along, that program runs each command that is not listed
here.
"""

FILES = {
    "/etc/sysreg/sysreg.conf": "Settings of the registry, the daemons and this command.",
    "/run/sysreg/agent.sock": "Where the agent listens.",
    "~/.cache/sysreg/": "Image names for the shell's completion.",
}


def head(name: str, section: int, summary: str, manual: str = "System administration") -> Iterator[str]:
    """Yield the lines up to NAME. The date is that of the changelog's newest entry."""
    yield '.\\" Written by `python -m tools.write_reference`; change the sources it names, not this file.'
    yield f'.TH {name.upper()} {section} {release_date()} "sysreg {__version__}" "{manual}"'
    yield ".SH NAME"
    yield f"{escaped(name)} \\- {escaped(summary)}"


def release_date() -> str:
    """Return the date of ``CHANGELOG.rst``'s newest entry. Raises ValueError if it is not of this version."""
    entry = re.search(r"^(\d+\.\d+\.\d+) \((\d{4}-\d{2}-\d{2})\)$", CHANGELOG.read_text(), re.MULTILINE)
    if entry is None or entry[1] != __version__:
        raise ValueError(f"{CHANGELOG}: the newest entry is not titled {__version__} (YYYY-MM-DD)")
    return entry[2]


def _command(name: str, command: Command, common: list[tuple[str, str]]) -> Iterator[str]:
    context = click.Context(command, info_name=f"system {name}")
    pieces = command.collect_usage_pieces(context)
    yield f".SS {escaped(name)}"
    yield f".B system {escaped(name)}"
    yield from _wrapped(" ".join(pieces))
    yield from paragraphs(inspect.cleandoc(command.help or ""))
    yield from terms(dict(command.argument_help))
    yield from terms(dict(option for option in options(command) if option not in common))
    if command.columns:
        yield ".PP"
        yield from _wrapped(f"Columns: {', '.join(command.columns)}.")
    for line, meaning in command.examples:
        yield from (".PP", *_wrapped(meaning), ".PP", ".RS 4", ".nf", escaped(line), ".fi", ".RE")


def options(command: click.Command) -> Iterator[tuple[str, str]]:
    """Yield the options that the command's help shows, each with its text."""
    for parameter in command.get_params(click.Context(command)):
        record = parameter.get_help_record(click.Context(command))
        if record is not None and isinstance(parameter, click.Option):
            yield record


def terms(terms: Mapping[str, str]) -> Iterator[str]:
    """Yield a list of terms, each with its text."""
    for term, meaning in terms.items():
        yield ".TP"
        yield f".B {escaped(term)}"
        yield from _wrapped(meaning)


def paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a text; blank lines divide them."""
    for paragraph in text.replace("\b\n", "").strip().split("\n\n"):
        yield ".PP"
        yield from _wrapped(paragraph)


def _wrapped(text: str) -> Iterator[str]:
    """Short lines, as mandoc's lint wants them; escapes make them a little longer."""
    for line in textwrap.wrap(" ".join(text.split()), 68, break_long_words=False, break_on_hyphens=False):
        yield escaped(line)


def escaped(text: str) -> str:
    """Return ``text`` with what means something to man(7) escaped."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return "\\&" + text if text.startswith((".", "'")) else text
