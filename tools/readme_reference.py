"""The command reference in README.rst, from the click commands and ``sysreg_cli/cli/manual.py``."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping

import click

from sysreg_cli.cli.manual import ENVIRONMENT, EXIT_CODES, PAGES


def render(system: click.Group, commands: Mapping[str, click.Command]) -> str:
    """reStructuredText; a section for the program, and one for each command."""
    lines = [
        "",
        "Options of every command",
        "~" * 24,
        "",
        "They may stand before the command or behind it.",
        "",
    ]
    common = _options(system)
    lines += _terms(common)
    for name, command in commands.items():
        page = PAGES[name]
        usage = " ".join(command.collect_usage_pieces(click.Context(command)))
        lines += [name, "~" * len(name), "", f"``system {name} {usage}``", ""]
        lines += [*inspect.cleandoc(command.help or "").replace("\b\n", "").splitlines(), ""]
        lines += _terms(page.arguments)
        lines += _terms(option for option in _options(command) if option not in common)
        if page.columns:
            lines += [f"Columns: {', '.join(page.columns)}.", ""]
        lines += ["::", ""]
        for line, meaning in page.examples:
            lines += [f"    # {meaning}", f"    {line}"]
        lines.append("")
    lines += ["Exit status", "~" * 11, "", *_terms((str(code), text) for code, text in EXIT_CODES.items())]
    lines += ["Environment", "~" * 11, "", *_terms(ENVIRONMENT.items())]
    return "\n".join(lines) + "\n"


def _options(command: click.Command) -> list[tuple[str, str]]:
    context = click.Context(command)
    options = [one for one in command.get_params(context) if isinstance(one, click.Option)]
    records = (option.get_help_record(context) for option in options)
    return [record for record in records if record is not None]


def _terms(terms: Iterable[tuple[str, str]]) -> list[str]:
    lines: list[str] = []
    for term, meaning in terms:
        lines += [f"``{term}``", f"    {' '.join(meaning.split())}"]
    return [*lines, ""] if lines else []
