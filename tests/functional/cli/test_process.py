"""`system` as a process: what a shell, a script and a person at the terminal notice."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from devstack import images
from devstack.controller import Controller
from devstack.waiting import wait_until

_SYSTEM = str(Path(sys.executable).parent / "system")
_HEAVY = ("keystoneauth1", "keystoneclient", "cryptography", "requests", "urllib3", "yaml", "asyncio")


def test_a_listing_imports_nothing_heavy(controller: Controller) -> None:
    done = controller.run([sys.executable, "-X", "importtime", _SYSTEM, "registry-image-list"])
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "http.client" in imported
    assert not imported & set(_HEAVY)


def test_help_imports_no_command(controller: Controller) -> None:
    done = controller.run([sys.executable, "-X", "importtime", _SYSTEM, "--help"])
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "sysreg_cli.cli.main" in imported
    assert not imported & {*_HEAVY, "ssl", "urllib3", "tabulate", "sysreg_cli.cli.images"}


def test_success_says_nothing_on_stderr_when_it_is_no_terminal(controller: Controller) -> None:
    controller.client().push("process/quiet", "v1", images.single(seed="quiet"))
    for words in (
        ["registry-image-list"],
        ["registry-image-list", "--filter-out-untagged", "--nowrap"],
        ["registry-image-tags", "process/quiet"],
        ["registry-image-delete", "process/quiet:v1"],
        ["help"],
        ["bash-completion"],
        ["--version"],
    ):
        done = controller.system(*words, env={"PYTHONWARNINGS": "default"})
        assert (done.returncode, done.stderr) == (0, ""), words


def test_a_table_is_whole_on_a_narrow_terminal(controller: Controller) -> None:
    name = "process/" + "/".join(["a-long-part"] * 12)
    controller.client().push(name, "v1", images.single(seed="narrow"))
    master, slave = pty.openpty()
    os.set_blocking(master, True)
    process = subprocess.Popen(
        [_SYSTEM, "registry-image-list"],
        stdout=slave,
        stderr=slave,
        stdin=slave,
        env={**controller.environ(), "COLUMNS": "20", "TERM": "dumb"},
    )
    os.close(slave)
    text = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        text += piece
    assert process.wait(30) == 0
    os.close(master)
    assert f"| {name} |" in " ".join(text.decode().split())
    assert b"\x1b" not in text


@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1"])
def test_no_locale_breaks_the_output(controller: Controller, locale: str) -> None:
    done = controller.system("help", "registry-image-delete", env={"LC_ALL": locale, "LANG": locale})
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_leaves_early_is_no_reason_to_complain(controller: Controller) -> None:
    done = controller.run(["bash", "-c", "set -o pipefail; system help | true; echo $?"])
    assert done.stderr == ""


def test_a_full_disk_is_told_and_is_exit_1(controller: Controller) -> None:
    done = controller.run(["bash", "-c", "system registry-image-list > /dev/full"])
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert done.stderr.count("\n") == 1


def test_ctrl_c_while_the_registry_hangs_ends_at_once_with_130(controller: Controller) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connected = threading.Event()

        def accept() -> None:
            connection, _ = silent.accept()
            connected.set()
            connection.recv(1)

        threading.Thread(target=accept, daemon=True).start()
        process = subprocess.Popen(
            [_SYSTEM, "registry-image-list", "--registry", f"localhost:{silent.getsockname()[1]}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=controller.environ(),
        )
        wait_until(connected.is_set, 30, what="system has connected")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (130, "", "system: interrupted\n")


def test_a_password_is_asked_for_on_a_terminal_only(controller: Controller) -> None:
    import pexpect

    environ = {**controller.environ(), "OS_PASSWORD": "", "TERM": "dumb"}
    child = pexpect.spawn(_SYSTEM, ["registry-image-list"], env=environ, timeout=30, encoding="utf-8")
    child.expect_exact("Password for admin: ")
    child.sendline(controller.passwords["admin"])
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert controller.passwords["admin"] not in (child.before or "")

    piped = controller.system("registry-image-list", env={"OS_PASSWORD": ""})
    assert piped.returncode == 1
    assert "OS_PASSWORD" in piped.stderr
