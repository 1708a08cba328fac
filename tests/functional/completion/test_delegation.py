"""The platform's own `system` further along PATH: it must work as if sysreg's were not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

SYSTEM = Path(sys.executable).with_name("system")

# Behaves as its words say, and shows all that a program sees of its start.
STAND_IN = r"""#!/bin/bash
case $1 in
host-list) printf '<%s>' "$@"; pwd; cat; echo "on stderr $0" >&2 ;;
raw) head -c 70000 /dev/zero; printf '\xff\r\n' ;;
exit) exit "$2" ;;
die) kill -"$2" $$ ;;
wait) trap 'echo caught; exit 7' TERM INT; echo ready; while :; do sleep 0.05; done ;;
ask) read -r -s -p 'Password: ' answer; echo; echo "got $answer"; [ -t 0 ] && [ -t 1 ] && stty size ;;
bash-completion) echo 'host-list --platform-option' ;;
*) echo "usage: system ..." >&2; exit 1 ;;
esac
"""


@pytest.fixture
def platform(tmp_path: Path) -> Path:
    """A directory with a stand-in for the platform's command."""
    directory = tmp_path / "platform bin"
    directory.mkdir()
    program = directory / "system"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    return directory


def environ(*directories: Path) -> dict[str, str]:
    path = ":".join([*map(str, directories), "/usr/bin:/bin"])
    return {"PATH": path, "HOME": "/nonexistent", "LANG": "C.UTF-8"}


def both_ways(
    platform: Path, *arguments: str, stdin: bytes = b""
) -> list[subprocess.CompletedProcess[bytes]]:
    """Run the command line with sysreg's `system` first on PATH, and without it."""
    return [
        subprocess.run(
            ["system", *arguments], input=stdin, capture_output=True, timeout=30, env=environ(*directories)
        )
        for directories in ([SYSTEM.parent, platform], [platform])
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ["host-list"],
        ["host-list", "", " ", "two words", "--", "-x", "$(touch /tmp/no)", "é", "*", "line\nbreak"],
        ["raw"],
        ["exit", "0"],
        ["exit", "3"],
        ["exit", "255"],
        ["die", "TERM"],
        ["die", "KILL"],
        ["die", "INT"],
        ["no-such-command"],
        ["--no-such-option"],
        ["help", "host-list"],
    ],
)
def test_a_command_of_the_platform_behaves_as_without_us(platform: Path, arguments: list[str]) -> None:
    handed, direct = both_ways(platform, *arguments, stdin=b"line 1\nline 2")
    assert (handed.stdout, handed.stderr) == (direct.stdout, direct.stderr)
    assert handed.returncode == direct.returncode


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGTERM, 7), (signal.SIGINT, 7), (signal.SIGKILL, -9)]
)
def test_a_signal_reaches_the_platforms_command(
    platform: Path, number: signal.Signals, expected: int
) -> None:
    process = subprocess.Popen(
        ["system", "wait"], env=environ(SYSTEM.parent, platform), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(10) == expected
        assert process.stdout.read() == ("caught\n" if expected == 7 else "")


def test_the_terminal_is_the_platforms(platform: Path) -> None:
    child = pexpect.spawn(
        "system",
        ["ask"],
        env={**environ(SYSTEM.parent, platform), "TERM": "dumb"},
        dimensions=(33, 99),
        encoding="utf-8",
        timeout=10,
    )
    child.expect_exact("Password: ")
    child.sendline("hidden")
    child.expect_exact("got hidden")
    child.expect_exact("33 99")
    child.expect(pexpect.EOF)
    assert "hidden" not in (child.before or "")
    child.close()
    assert child.exitstatus == 0


def test_our_commands_are_not_handed_over(platform: Path) -> None:
    done = subprocess.run(
        ["system", "help", "registry-image-list"],
        env=environ(SYSTEM.parent, platform),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0
    assert "registry-image-list" in done.stdout


def test_a_wrapper_that_only_calls_system_again_does_not_go_round_for_ever(tmp_path: Path) -> None:
    wrapper = tmp_path / "system"
    wrapper.write_text('#!/bin/sh\nsystem "$@"\n')
    wrapper.chmod(0o755)
    done = subprocess.run(
        ["system", "host-list"],
        env=environ(SYSTEM.parent, tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "host-list" in done.stderr


def test_a_platform_command_may_call_us_for_a_part_of_its_work(tmp_path: Path, platform: Path) -> None:
    # host-list behind a command of the platform that itself calls `system host-list` through PATH
    script = (
        (platform / "system").read_text().replace("exit)", "nested) shift; system host-list nested ;;\nexit)")
    )
    (platform / "system").write_text(script)
    handed, direct = both_ways(platform, "nested")
    assert handed.stdout == direct.stdout
    assert b"<host-list><nested>" in handed.stdout


def test_a_system_in_the_current_directory_is_never_run(tmp_path: Path) -> None:
    (tmp_path / "system").write_text("#!/bin/sh\ntouch ran\n")
    (tmp_path / "system").chmod(0o755)
    done = subprocess.run(
        ["system", "host-list"],
        env={**environ(), "PATH": f"{SYSTEM.parent}::.:/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert not (tmp_path / "ran").exists()


def test_without_another_system_an_unknown_command_is_exit_2_and_a_suggestion() -> None:
    done = subprocess.run(
        ["system", "registry-image-lst"],
        env=environ(SYSTEM.parent),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "registry-image-list" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_environment_is_passed_on_whole(platform: Path) -> None:
    (platform / "system").write_text("#!/bin/sh\nexec env -0\n")
    handed, direct = both_ways(platform, "host-list")
    added = {
        entry
        for entry in set(handed.stdout.split(b"\0")) ^ set(direct.stdout.split(b"\0"))
        if b"PATH=" not in entry
    }
    assert added == {b"SYSREG_HANDED_OVER=1"}
    assert os.fsencode(str(platform)) in handed.stdout


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["help", "registry-image-lst"], "Did you mean registry-image-list?"),
        (["Registry-Image-Lst"], "Did you mean registry-image-list?"),
        (["registry", "image", "list", "--nowrap"], "Did you mean registry-image-list?"),
        (["certificate-install", "x.pem"], "Choose from: docker_registry, ssl_ca"),
    ],
)
def test_a_wrong_line_is_answered_with_one_line_that_helps(line: list[str], said: str) -> None:
    done = subprocess.run(
        ["system", *line], env=environ(SYSTEM.parent), capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
