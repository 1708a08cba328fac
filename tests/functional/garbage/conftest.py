"""A controller for tests of collections only: a collection concerns the whole storage."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from devstack.controller import Controller
from devstack.programs import AGENT
from devstack.waiting import wait_until
from tests.functional.conftest import NewController


@pytest.fixture(scope="package")
def shared(new_controller: NewController) -> Iterator[Controller]:
    with new_controller() as controller:
        yield controller


@pytest.fixture
def registry(shared: Controller) -> Controller:
    """A controller with an empty registry. No collection runs."""
    if not shared.pid(AGENT):
        shared.start_program(AGENT)
    wait_until(lambda: status(shared)["state"] == "idle", 30, what="no collection runs")
    shutil.rmtree(shared.paths.storage / "docker", ignore_errors=True)
    writes_ended(shared)
    return shared


def writes_ended(controller: Controller) -> None:
    """Record that the last write token was issued long ago: a drain would wait for it for 65 s."""
    (controller.paths.state / "latest-write-token").write_text(f"{time.time() - 600:19.6f}\n")


def collect(controller: Controller, *options: str, **run: Any) -> subprocess.CompletedProcess[str]:
    """Collect, without the wait for the last write token."""
    writes_ended(controller)
    return controller.system("registry-garbage-collect", *options, **run)


def collected(controller: Controller, *options: str) -> dict[str, Any]:
    """Collect successfully, and return the report."""
    done = collect(controller, "-f", "json", *options)
    assert (done.returncode, done.stderr) == (0, ""), done
    (report,) = json.loads(done.stdout)
    return dict(report)


def status(controller: Controller) -> dict[str, Any]:
    done = subprocess.run(
        [
            "curl",
            "-sS",
            "--fail",
            "--unix-socket",
            str(controller.paths.agent_socket),
            "http://agent/v1/registry_image/garbage_collect",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    return dict(json.loads(done.stdout))
