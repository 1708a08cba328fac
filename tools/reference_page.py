"""``docs/reference.rst``, from the click commands, ``sysreg_cli/cli/manual.py`` and the sample settings."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping

import click

from sysreg_cli.cli.manual import ENVIRONMENT, EXIT_CODES
from sysreg_cli.cli.options import Command
from tools.man_page import options
from tools.sample import Section

_HEAD = """\
.. Written by ``python -m tools.write_reference``; change the code and etc/sysreg/sysreg.conf, not this file.

Reference
=========

.. contents::
   :local:
   :depth: 2

"""


def render(system: click.Group, commands: Mapping[str, Command], settings: Iterable[Section]) -> str:
    """Return the page as reStructuredText: options, each command, exit status, environment, settings."""
    common = dict(options(system))
    lines = [
        *_title("Options of every command"),
        "They may stand before the command or behind it.",
        "",
        *_terms(common.items()),
        *_title("Commands"),
    ]
    for name, command in commands.items():
        lines += _command(name, command, common)
    lines += [*_title("Exit status"), *_terms((str(code), text) for code, text in EXIT_CODES.items())]
    lines += [*_title("Environment"), "An option wins over its variable.", "", *_terms(ENVIRONMENT.items())]
    lines += [
        *_title("Settings"),
        "The settings are in ``/etc/sysreg/sysreg.conf``; see also sysreg.conf(5).",
        "",
    ]
    for section in settings:
        lines += _title(f"[{section.name}]", "~")
        if section.comment:
            lines += [section.comment, ""]
        lines += _terms((key.line, key.comment) for key in section.keys)
    return _HEAD + "\n".join(lines).rstrip("\n") + "\n"


def _command(name: str, command: Command, common: Mapping[str, str]) -> list[str]:
    usage = " ".join(command.collect_usage_pieces(click.Context(command)))
    lines = [*_title(name, "~"), f"``system {name} {usage}``", ""]
    lines += [*inspect.cleandoc(command.help or "").replace("\b\n", "").splitlines(), ""]
    lines += _terms(command.argument_help)
    lines += _terms((option, text) for option, text in options(command) if option not in common)
    if command.columns:
        lines += [f"Columns: {', '.join(command.columns)}.", ""]
    lines += ["::", ""]
    for line, meaning in command.examples:
        lines += [f"    # {meaning}", f"    {line}"]
    return [*lines, ""]


def _title(text: str, underline: str = "-") -> list[str]:
    return [text, underline * len(text), ""]


def _terms(terms: Iterable[tuple[str, str]]) -> list[str]:
    lines: list[str] = []
    for term, meaning in terms:
        lines += [f"``{term}``", f"    {' '.join(meaning.split())}"]
    return [*lines, ""] if lines else []
