"""What a person at a terminal sees of a collection."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from devstack import images
from devstack.controller import Controller
from devstack.programs import AGENT
from devstack.waiting import wait_until
from tests.functional.garbage.conftest import collect, status, writes_ended
from tests.functional.garbage.test_kill import Agent, collectors, slow_path

_SYSTEM = str(Path(sys.executable).parent / "system")


@pytest.fixture
def slow(registry: Controller) -> Iterator[Controller]:
    """A controller with a deleted image, whose collector takes some seconds."""
    client = registry.client()
    client.push("app", "1", (image := images.single()))
    client.delete("app", image.digest)
    writes_ended(registry)
    registry.stop_program(AGENT)
    agent = Agent(registry, PATH=slow_path(registry, 4))
    agent.ready()
    yield registry
    Agent.end_all(registry)
    registry.start_program(AGENT)


def at_a_terminal(controller: Controller, *words: str) -> pexpect.spawn[bytes]:
    environment = {**os.environ, **controller.environ(), "TERM": "xterm"}
    return pexpect.spawn(_SYSTEM, ["registry-garbage-collect", *words], env=environment, timeout=30)


def test_progress_moves_until_the_report(slow: Controller) -> None:
    terminal = at_a_terminal(slow)
    terminal.expect_exact("Running docker registry garbage collect")
    terminal.expect(r"sweep .*?(\d+)%")
    assert isinstance(terminal.match, re.Match)
    early = int(terminal.match[1])
    terminal.expect(r"Freed \d+ blobs")
    seen = [int(number) for number in re.findall(rb"(\d+)%", terminal.before or b"")]
    assert early <= max(seen)
    assert seen[-1] == 100
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0


def test_ctrl_c_leaves_it_running_and_status_finds_it(slow: Controller) -> None:
    terminal = at_a_terminal(slow)
    terminal.expect("sweep")
    terminal.sendintr()
    terminal.expect_exact("the collection goes on")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 130
    shown = slow.system("registry-garbage-collect", "--status")
    assert re.search(r"\| state +\| running", shown.stdout)
    assert re.search(r"\| phase +\| sweep", shown.stdout)
    wait_until(lambda: status(slow)["state"] == "idle", 20)
    assert status(slow)["last_result"]["outcome"] == "done"


def test_no_wait_returns_at_once_and_a_second_one_is_refused(slow: Controller) -> None:
    started = slow.system("registry-garbage-collect", "--no-wait")
    assert (started.returncode, started.stdout) == (0, "Running docker registry garbage collect\n")
    wait_until(lambda: collectors(slow), 20)
    second = slow.system("registry-garbage-collect")
    assert second.returncode == 1
    assert second.stdout == ""
    assert "a garbage collection is under way" in second.stderr


def test_cancel_ends_it_and_who_waits_is_told(slow: Controller) -> None:
    terminal = at_a_terminal(slow)
    terminal.expect("sweep")
    cancelled = slow.system("registry-garbage-collect", "--cancel")
    assert (cancelled.returncode, cancelled.stderr) == (0, "")
    assert cancelled.stdout == "The garbage collection was cancelled in the phase sweep\n"
    terminal.expect_exact("the collection was cancelled")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 1
    assert not collectors(slow)
    again = slow.system("registry-garbage-collect", "--cancel")
    assert again.returncode == 1
    assert "no garbage collection is under way" in again.stderr


def test_an_agent_that_stops_ends_its_collection_first(slow: Controller) -> None:
    assert slow.system("registry-garbage-collect", "--no-wait").returncode == 0
    (collector,) = wait_until(lambda: collectors(slow), 20)
    (agent,) = Agent.started
    assert agent.process.pid in [parent.pid for parent in collector.parents()]
    agent.process.send(signal.SIGTERM)
    agent.process.wait(20)
    assert not collectors(slow)
    slow.start_program(AGENT)
    assert status(slow)["last_result"]["outcome"] == "cancelled"
    slow.stop_program(AGENT)


def test_wrong_words_are_refused_before_anything_starts(registry: Controller) -> None:
    for words in (
        ["--status", "--cancel"],
        ["--cancel", "--dry-run"],
        ["--dry-run", "--no-wait"],
        ["--grace", "-1"],
    ):
        done = collect(registry, *words)
        assert done.returncode == 2, words
        assert done.stdout == ""
