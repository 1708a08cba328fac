"""Every prefix of every command and option, by calling the completion function directly."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import click

from sysreg_cli.cli.commands import COMMANDS
from sysreg_cli.cli.main import system
from tests.functional.completion.shell import COMPLETION

_FUNCTION = r"""
source "$1"
complete_line() {
    COMP_LINE=$1 COMP_POINT=${#1}
    read -r -a COMP_WORDS <<<"$1"
    [[ $1 == *' ' ]] && COMP_WORDS+=('')
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _sysreg_system system "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    printf '%s\n' "${COMPREPLY[*]}"
}
while IFS= read -r line; do complete_line "$line"; done
"""


def completions(lines: list[str], home: Path) -> list[set[str]]:
    done = subprocess.run(
        ["bash", "--norc", "-c", _FUNCTION, "bash", str(COMPLETION)],
        input="".join(line + "\n" for line in lines),
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": "/usr/bin:/bin", "HOME": str(home), "LANG": "C.UTF-8"},
    )
    assert done.stderr == ""
    replies = done.stdout.split("\n")[:-1]
    assert len(replies) == len(lines)
    return [set(shlex.split(words)) for words in replies]


def options_of(command: click.Command) -> set[str]:
    """The options that `--help` of the command names."""
    context = click.Context(command, help_option_names=["-h", "--help"])
    options = [
        parameter
        for parameter in command.get_params(context)
        if isinstance(parameter, click.Option) and not parameter.hidden
    ]
    return {name for option in options for name in option.opts}


def prefixes(words: set[str]) -> list[str]:
    return sorted({word[:length] for word in words for length in range(1, len(word) + 1)})


def test_every_prefix_of_every_command(tmp_path: Path) -> None:
    wanted = prefixes(set(COMMANDS))
    replies = completions([f"system {prefix}" for prefix in wanted], tmp_path)
    for prefix, words in zip(wanted, replies, strict=True):
        assert words == {name for name in COMMANDS if name.startswith(prefix)}, prefix


def test_every_prefix_of_every_option_of_every_command(tmp_path: Path) -> None:
    root = click.Context(system, info_name="system")
    program = options_of(system)
    cases: list[tuple[str, set[str]]] = []
    for name in ["", *COMMANDS]:
        command = system.get_command(root, name) if name else system
        assert command is not None
        own = options_of(command)
        for prefix in prefixes(own | program):
            # The program's own options may stand behind the command too; they don't crowd out its own.
            expected = {word for word in own if word.startswith(prefix)}
            expected = expected or {word for word in program if word.startswith(prefix)}
            cases.append((f"system {name}{' ' if name else ''}{prefix}", expected))
    replies = completions([line for line, _ in cases], tmp_path)
    for (line, expected), words in zip(cases, replies, strict=True):
        assert words == expected, line
    assert len(cases) > 1500


def test_every_prefix_of_every_value_of_a_choice(tmp_path: Path) -> None:
    root = click.Context(system, info_name="system")
    cases: list[tuple[str, set[str]]] = []
    for name in COMMANDS:
        command = system.get_command(root, name)
        assert command is not None
        for option in command.params:
            if isinstance(option, click.Option) and isinstance(option.type, click.Choice):
                choices = set(option.type.choices)
                for prefix in ["", *prefixes(choices)]:
                    for word in option.opts:
                        expected = {choice for choice in choices if choice.startswith(prefix)}
                        cases.append((f"system {name} {word} {prefix}", expected))
    replies = completions([line for line, _ in cases], tmp_path)
    for (line, expected), words in zip(cases, replies, strict=True):
        assert words == expected, line
