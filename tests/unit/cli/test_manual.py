"""Help, docs/reference.rst and man page say the same, and say what the code does."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from sysreg_cli.cli.commands import COMMANDS
from sysreg_cli.cli.global_options import TEXT_OPTIONS
from sysreg_cli.cli.invocation import Invocation
from sysreg_cli.cli.main import system
from sysreg_cli.cli.manual import ENVIRONMENT, EXIT_CODES
from sysreg_cli.deploy import deployment
from tools import write_reference

ROOT = Path(__file__).resolve().parents[3]
EVERY = write_reference.commands()
MAN_PAGES = sorted(path.name for path in (ROOT / "man").iterdir())
# Between our own processes only, or every program's.
UNDOCUMENTED = {"SYSREG_HANDED_OVER", "HOME", "PATH"}


def shown(*words: str) -> str:
    result = CliRunner().invoke(system, [*words], obj=Invocation(), prog_name="system", terminal_width=500)
    assert result.exit_code == 0, result.output
    return result.output


def reference() -> str:
    return (ROOT / "docs/reference.rst").read_text()


def man_page() -> str:
    return (ROOT / "man/system.1").read_text().replace("\\-", "-").replace("\\(aq", "'").replace("\\e", "\\")


def sections(name: str) -> dict[str, str]:
    """What help, reference and man page say of one command, and nothing of another."""
    return {
        "help": shown(name, "--help"),
        "reference": reference().partition(f"\n{name}\n~~~")[2].partition("\n~~~")[0],
        "man page": man_page().partition(f"\n.SS {name}\n")[2].partition("\n.SS ")[0],
    }


def test_what_is_generated_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.write_reference", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, f"run python -m tools.write_reference\n{done.stdout}{done.stderr}"


def test_every_man_page_is_installed() -> None:
    assert set(MAN_PAGES) == set(deployment.MAN_PAGES)


def test_every_command_has_an_example() -> None:
    assert all(command.examples for command in EVERY.values())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_summary_is_the_first_line_of_the_help(name: str) -> None:
    assert (EVERY[name].help or "").strip().splitlines()[0] == COMMANDS[name][1]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_in_help_reference_and_man_page(name: str) -> None:
    # reference and man page list the options of the program only once
    program = {word for option in write_reference.options(system) for word in option.opts}
    whole = {"reference": reference(), "man page": man_page()}
    for option in write_reference.options(EVERY[name]):
        for where, text in sections(name).items():
            for word in option.opts:
                place = whole.get(where, text) if word in program else text
                assert re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", place), (
                    f"{word} is not in the {where}"
                )


@pytest.mark.parametrize("name", COMMANDS)
def test_the_arguments_are_those_of_the_code(name: str) -> None:
    context = click.Context(EVERY[name])
    arguments = [argument for argument in EVERY[name].params if isinstance(argument, click.Argument)]
    assert [term for term, _ in EVERY[name].argument_help] == [
        argument.make_metavar(context) for argument in arguments
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_sections_of_the_page_are_in_help_reference_and_man_page(name: str) -> None:
    command = EVERY[name]
    terms = [term for term, _ in command.argument_help] + [line for line, _ in command.examples]
    for where, text in sections(name).items():
        unwrapped = " ".join(text.split())
        for term in [*terms, *command.columns]:
            assert term in unwrapped, f"{term} is not in the {where}"


@pytest.mark.parametrize(
    ("name", "example"), [(name, line) for name, command in EVERY.items() for line, _ in command.examples]
)
def test_an_example_is_a_command_line_that_the_program_takes(name: str, example: str) -> None:
    for part in example.split("|"):
        words = shlex.split(part)
        if words[0] == "system":
            with EVERY[words[1]].make_context(words[1], words[2:], obj=Invocation(environ={})):
                pass
    assert example.startswith("system ")


def test_every_exit_code_is_in_help_reference_and_man_page() -> None:
    for code, meaning in EXIT_CODES.items():
        pattern = rf"{code}\b[`\s]+{re.escape(meaning[:20])}"
        texts = {name: shown(name, "--help") for name in COMMANDS}
        for where, text in {**texts, "reference": reference(), "man page": man_page()}.items():
            assert re.search(pattern, text), f"{code} is not in {where}"


def test_every_variable_that_the_code_reads_is_documented_and_no_other() -> None:
    sources = [*(ROOT / "sysreg_cli/cli").glob("*.py"), ROOT / "sysreg_cli/settings/loader.py"]
    code = "\n".join(path.read_text() for path in sources if path.name != "manual.py")
    read = set(re.findall(r'"((?:OS|SYSREG)_[A-Z_]+|XDG_CACHE_HOME|TERM|NO_COLOR)"', code))
    assert (read - UNDOCUMENTED) | {option.variable for option in TEXT_OPTIONS} == set(ENVIRONMENT)


@pytest.mark.parametrize("variable", ENVIRONMENT)
def test_every_variable_is_in_help_reference_and_man_page(variable: str) -> None:
    helps = shown("--help") + "".join(shown(name, "--help") for name in COMMANDS)
    for where, text in {"help": helps, "reference": reference(), "man page": man_page()}.items():
        assert variable in text, f"{variable} is not in the {where}"


@pytest.mark.skipif(not shutil.which("mandoc"), reason="mandoc is not installed")
@pytest.mark.parametrize("page", MAN_PAGES)
def test_the_man_pages_render_without_warnings(page: str) -> None:
    lint = subprocess.run(
        ["mandoc", "-T", "lint", str(ROOT / "man" / page)], capture_output=True, text=True, timeout=30
    )
    assert lint.stdout + lint.stderr == ""


@pytest.mark.skipif(not shutil.which("man"), reason="man-db is not installed")
def test_groff_has_no_warnings_either() -> None:
    done = subprocess.run(
        ["man", "--warnings", "-l", str(ROOT / "man/system.1")],
        capture_output=True,
        text=True,
        timeout=30,
        env={"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", "MANPAGER": "cat", "MANWIDTH": "80"},
    )
    assert done.stderr == ""
    assert "registry-image-delete" in done.stdout
