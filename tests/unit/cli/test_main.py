"""Options, help, exit codes: what every command has in common."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable

import click
import pytest

from sysreg_cli import __version__
from sysreg_cli.cli import commands, images, main
from sysreg_cli.cli.invocation import Invocation
from sysreg_cli.cli.options import command
from sysreg_cli.errors import NotFound
from tests.unit.cli.conftest import Outcome

System = Callable[..., Outcome]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Invocation], None]], None]:
    """Let `system registry-image-list` do what the test says."""

    def install(action: Callable[[Invocation], None]) -> None:
        @command("registry-image-list", columns=["Image Name"], examples=[])
        @click.pass_obj
        def replaced(invocation: Invocation) -> None:
            action(invocation)

        monkeypatch.setattr(images, "list_images", replaced)

    return install


def _raise(error: BaseException) -> Callable[[Invocation], None]:
    def action(_: Invocation) -> None:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (NotFound("a:v1: not there", next_step="push it"), 1, "system: a:v1: not there; push it\n"),
        (KeyboardInterrupt(), 130, "system: interrupted\n"),
        (KeyboardInterrupt("interrupted: a:v1: half done"), 130, "system: interrupted: a:v1: half done\n"),
        (click.Abort(), 130, "system: interrupted\n"),
        (
            ZeroDivisionError("x"),
            1,
            "system: internal error, please report it: ZeroDivisionError: x; --debug",
        ),
        (click.UsageError("wrong"), 2, "system: wrong (see `system help registry-image-list`)\n"),
        (OSError(28, "No space left on device"), 1, "system: standard output: No space left on device\n"),
        (
            OSError(24, "Too many open files"),
            1,
            "system: the operating system refused: Too many open files\n",
        ),
        (OSError(13, "Permission denied", "/a"), 1, "system: /a: Permission denied\n"),
    ],
)
def test_whatever_happens_is_one_line_and_an_exit_code(
    system: System,
    stand_in: Callable[..., None],
    error: BaseException,
    code: int,
    line: str,
) -> None:
    stand_in(_raise(error))
    got, out, err = system("registry-image-list")
    assert (got, out) == (code, "")
    assert err.startswith(line)
    assert err.count("\n") == 1


def test_debug_shows_where_it_happened(
    stand_in: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(_raise(NotFound("not there")))
    for words in (["--debug", "registry-image-list"], ["registry-image-list", "--debug"]):
        assert main.run(words, Invocation({})) == 1
        assert "Traceback" in capsys.readouterr().err


def test_the_highest_reported_failure_is_the_exit_code(system: System, stand_in: Callable[..., None]) -> None:
    stand_in(lambda invocation: invocation.report(NotFound("one")))
    assert system("registry-image-list") == (1, "", "system: one\n")


@pytest.mark.parametrize(
    "words", [["--timeout", "7", "registry-image-list"], ["registry-image-list", "--timeout=7"]]
)
def test_options_may_stand_on_either_side_of_the_command(
    system: System, stand_in: Callable[..., None], words: list[str]
) -> None:
    stand_in(lambda invocation: print(invocation.timeout))
    assert system(*words) == (0, "7.0\n", "")


def test_behind_the_command_wins(system: System, stand_in: Callable[..., None]) -> None:
    stand_in(lambda invocation: print(invocation.format, invocation.timeout))
    words = ["-f", "json", "--timeout", "7", "registry-image-list", "-f", "csv"]
    assert system(*words) == (0, "csv 7.0\n", "")


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["registry-image-list", "--nonsense"],
        ["registry-image-list", "too-much"],
        ["registry-image-tags"],
        ["registry-image-delete"],
        ["registry-image-list", "-f", "nonsense"],
        # Before anything is deleted, collected or installed.
        ["registry-image-delete", "-c", "nosuch", "a:v1"],
        ["registry-garbage-collect", "-c", "nosuch"],
        ["registry-garbage-collect", "--no-wait", "-c", "blobs"],
        ["certificate-install", "-m", "ssl_ca", "-c", "nosuch", "/dev/null"],
        ["registry-image-list", "--timeout", "0"],
        ["registry-image-list", "--timeout", "nan"],
        ["registry-image-list", "--timeout", "x"],
        ["help", "nonsense"],
    ],
)
def test_wrong_usage_is_exit_2_and_one_line(system: System, words: list[str]) -> None:
    code, out, err = system(*words)
    assert (code, out) == (2, "")
    assert err.startswith("system: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "name",
    [
        "",
        ":",
        "a:v1:v2",
        "UPPER:v1",
        "a:",
        "a:-x",
        "a" * 256 + ":v1",
        "a:" + "v" * 129,
        "ä:v1",
        "a\nb:v1",
        "a\x1b[31m:v1",
        "a//b:v1",
        "../a:v1",
        "a@sha256:beef",
        "a:v1@sha256:" + "0" * 64,
        "elsewhere:5000/a:v1",
    ],
)
def test_a_malformed_image_name_is_exit_2_before_anything_is_asked(system: System, name: str) -> None:
    code, out, err = system("registry-image-delete", "--registry", "registry.invalid", "good:v1", name)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.removesuffix("\n").isprintable()


def test_version_and_help_name_every_command(system: System) -> None:
    assert system("--version") == (0, f"system {__version__}\n", "")
    for words in (["--help"], ["help"], ["-h"]):
        code, out, err = system(*words)
        assert (code, err) == (0, "")
        assert all(name in out for name in commands.COMMANDS)


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_command_has_a_help_whose_first_line_is_the_summary(system: System, name: str) -> None:
    code, out, _ = system("help", name)
    assert code == 0
    assert commands.COMMANDS[name][1] in out
    assert system(name, "--help")[1] == out


def test_the_words_for_completion_are_all_commands_and_options(system: System) -> None:
    code, out, _ = system("bash-completion")
    words = set(out.split())
    assert code == 0
    assert set(commands.COMMANDS) <= words
    assert {"--filter-out-untagged", "--dry-run", "--yes", "--format", "-f", "--timeout", "--mode"} <= words


def test_every_option_with_a_variable_says_so_in_the_help(system: System) -> None:
    _, out, _ = system("--help")
    assert set(re.findall(r"\[((?:OS|SYSREG)_[A-Z_]+)\]", out)) >= {"OS_USERNAME", "SYSREG_REGISTRY_CA"}


def test_a_broken_settings_file_is_named_with_every_problem(
    system: System, tmp_path: os.PathLike[str]
) -> None:
    path = os.path.join(tmp_path, "broken.conf")  # noqa: PTH118
    with open(path, "w") as file:  # noqa: PTH123
        file.write("[registry]\nport = x\nnonsense = 1\n")
    code, out, err = system("registry-image-list", SYSREG_CONF=path)
    assert (code, out) == (1, "")
    assert f"{path}:2" in err
    assert f"{path}:3" in err


def test_a_delete_that_fails_is_told_in_json_too(system: System) -> None:
    code, out, err = system(
        "registry-image-delete", "-f", "json", "--registry", "registry.invalid", "a:v1", "b:v1"
    )
    assert code == 1
    assert [(entry["image"], entry["deleted"]) for entry in json.loads(out)] == [
        ("a:v1", False),
        ("b:v1", False),
    ]
    assert err.count("\n") == 2
