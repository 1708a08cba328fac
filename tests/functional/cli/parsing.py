"""What scripts read the output with, and where they run `system`."""

from __future__ import annotations

import csv
import io
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from typing import Any

import pexpect
import yaml

from devstack.controller import Controller

FORMATS = ("table", "value", "json", "csv", "yaml")
PLACES = ("in a pipe", "on a terminal of 40 columns in the C locale")


def run(controller: Controller, line: str, place: str, **variables: str) -> tuple[int, str]:
    """The exit status and what was written on stdout; stderr, which is no terminal, has to stay empty."""
    if place == PLACES[0]:
        done = controller.system(*shlex.split(line), env=variables)
        assert done.stderr == ""
        return done.returncode, done.stdout
    bent = {"LANG": "C", "LC_ALL": "C", "NO_COLOR": "1", "COLUMNS": "40", "TERM": "xterm", **variables}
    with tempfile.NamedTemporaryFile("r") as errors:
        terminal: pexpect.spawn[str] = pexpect.spawn(
            "bash",
            ["-c", f"system {line} 2>{errors.name}"],
            env={**controller.environ(), **bent},
            timeout=60,
            encoding="utf-8",
            dimensions=(24, 40),
        )
        text = terminal.read()
        status = terminal.wait()
        assert errors.read() == ""
    assert "\x1b" not in text
    return status, text.replace("\r\n", "\n")


def shell(script: str) -> Callable[[str], list[str]]:
    """A parser that is a shell pipeline; its lines."""

    def parse(text: str) -> list[str]:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", script], input=text, capture_output=True, text=True, timeout=30
        )
        assert (done.returncode, done.stderr) == (0, ""), script
        return done.stdout.splitlines()

    return parse


def csv_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def yaml_document(text: str) -> Any:
    return yaml.safe_load(text)
