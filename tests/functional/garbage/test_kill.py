"""Kills each process at each point of a collection: writes are possible again, and no image is lost.

The storage is copied from a template, so that a case takes a second or two. Images are read back through
the real registry. Each test starts its own agent process, with the failpoints of
``sysreg_cli.host.failpoint``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest

from devstack import images
from devstack.controller import Controller
from devstack.programs import AGENT, REGISTRY, TOKEN_SERVER
from devstack.waiting import wait_until
from sysreg_cli.tokens.write_lock import WriteLock
from tests.functional.agent_process import AgentProcess
from tests.functional.garbage.conftest import status, writes_ended
from tests.functional.garbage.sandbox import fill, in_background
from tests.unit.agent.storage.builder import Storage

# Where a failpoint stops the agent: at each phase, and in the drain also when it holds the lock.
STOPS = ("scan", "drain", "hold", "mark", "pin", "untag", "sweep", "cleanup", "verify")
TAGGED = (("app", "1"), ("app", "2"), ("app", "signed"), ("app/nested", "1"), ("indexes", "1"))

# Sleeps, then becomes the real collector, which inherits the lock through it.
SLOW = """#!/usr/bin/python3
import os, sys, time
if "garbage-collect" in sys.argv:
    time.sleep({seconds})
os.execv("/usr/bin/docker-registry", sys.argv)
"""


class Agent:
    """An agent process of the test, with the socket and the state of the controller's agent."""

    started: ClassVar[list[Agent]] = []

    def __init__(self, controller: Controller, **environment: str) -> None:
        self.controller = controller
        self.started.append(self)
        self.process = AgentProcess(
            {"PATH": os.environ["PATH"], "SYSREG_CONF": str(controller.paths.settings), **environment},
            controller.paths.root / "log/own-agent.log",
        )

    def ready(self) -> None:
        wait_until(lambda: status(self.controller), 20, what="the agent answers", pause=0.02)

    def collect(self) -> None:
        subprocess.run(
            [
                "curl",
                "-sS",
                "-X",
                "POST",
                "--unix-socket",
                self.controller.paths.agent_socket,
                "http://agent/v1/registry_image?garbage_collect=True&delete_untagged=True",
            ],
            capture_output=True,
            timeout=30,
            check=False,
        )

    @classmethod
    def end_all(cls, controller: Controller) -> None:
        """Kill what a failed test left."""
        for agent in cls.started:
            agent.process.send(signal.SIGKILL)
            agent.process.wait(20)
        cls.started.clear()
        for process in collectors(controller):
            process.kill()

    def stop(self) -> None:
        self.process.send(signal.SIGTERM)
        self.process.wait(30)


@pytest.fixture
def agentless(registry: Controller) -> Iterator[Controller]:
    """A controller without its agent."""
    registry.stop_program(AGENT)
    yield registry
    Agent.end_all(registry)
    registry.start_program(AGENT)


@pytest.fixture
def restore_storage(agentless: Controller, tmp_path: Path) -> Callable[[], set[str]]:
    template = Storage(tmp_path / "template")
    needed = fill(template)
    subprocess.run(["chown", "-R", "docker-registry:docker-registry", template.base.parents[1]], check=True)

    def restore() -> set[str]:
        shutil.rmtree(agentless.paths.storage / "docker", ignore_errors=True)
        subprocess.run(["cp", "-a", template.base.parents[1], agentless.paths.storage / "docker"], check=True)
        writes_ended(agentless)
        return needed

    return restore


@contextmanager
def running(controller: Controller, **environment: str) -> Iterator[Agent]:
    agent = Agent(controller, **environment)
    try:
        agent.ready()
        yield agent
    finally:
        agent.stop()


def collectors(controller: Controller) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "garbage-collect" in words and str(controller.paths.registry_config) in words:
            found.append(process)
    return found


def writes_are_open(controller: Controller) -> bool:
    write_lock = WriteLock(controller.paths.state)
    try:
        return not write_lock.is_held()
    finally:
        write_lock.close()


def wait_for_writes(controller: Controller, where: str = "") -> None:
    """The kernel releases the write lock when its last holder dies; no agent has to help."""
    wait_until(lambda: writes_are_open(controller), 20, pause=0.01, what=f"writes are possible {where}")


def assert_whole(controller: Controller) -> None:
    client = controller.client()
    for repository, tag in TAGGED:
        assert client.is_whole(repository, tag), f"{repository}:{tag}"


def slow_path(controller: Controller, seconds: float) -> str:
    """Return a PATH with a slow collector, in a directory that the registry's user can enter."""
    program = controller.paths.root / "bin/docker-registry"
    program.parent.mkdir(exist_ok=True)
    program.write_text(SLOW.format(seconds=seconds))
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


def assert_recovers(controller: Controller, needed: set[str], outcomes: set[str]) -> None:
    """A new agent reports what happened and removes the pins, and the next collection finishes the work."""
    with running(controller) as agent:
        wait_until(lambda: status(controller)["state"] == "idle", 20, what="recovered")
        assert status(controller)["last_result"]["outcome"] in outcomes
        assert not (
            controller.paths.storage / "docker/registry/v2/repositories/sysreg-garbage-collection"
        ).exists()
        before = status(controller)["last_result"]["id"]
        agent.collect()
        wait_until(lambda: status(controller)["last_result"]["id"] != before, 20, what="collected")
        assert status(controller)["last_result"]["outcome"] == "done"
    assert Storage(controller.paths.storage).all_blobs() == needed
    assert_whole(controller)


def stopped(agent: Agent) -> str:
    """Return whether a failpoint has stopped the agent."""
    status = psutil.Process(agent.process.pid).status()
    return "stopped" if status == psutil.STATUS_STOPPED else ""


def history(controller: Controller) -> dict[str, Any]:
    """What a later agent would find on disk. A stopped agent doesn't answer."""
    return dict(json.loads((controller.paths.state / "garbage/history.json").read_bytes()))


def pushed_a_moment_ago(controller: Controller) -> None:
    """Let the last write token expire in half a second, so that the collection marks under the write lock."""
    (controller.paths.state / "latest-write-token").write_text(f"{time.time() - 65.5:19.6f}\n")


def restarted(controller: Controller) -> None:
    """Wait until the supervisor has restarted what was killed. The test's own agent is not its business."""
    controller.wait_ready(REGISTRY, TOKEN_SERVER)
    for program in (TOKEN_SERVER, REGISTRY):  # supervisord takes an earlier end for a failed start
        wait_until(
            lambda program=program: (
                controller.supervisor.call("getProcessInfo", program)["statename"]  # type: ignore[misc]
                == "RUNNING"
            )
        )


def assert_pushes(controller: Controller) -> None:
    """Push, and remove what was pushed."""
    controller.client().push("pushed", "1", images.single())
    shutil.rmtree(controller.paths.storage / "docker/registry/v2/repositories/pushed")
    writes_ended(controller)


def places(controller: Controller, trace: Path) -> list[str]:
    with running(controller, SYSREG_AGENT_FAILPOINT=f"trace:{trace}") as agent:
        before = status(controller)["results"]
        agent.collect()
        wait_until(lambda: status(controller)["results"] != before, 20, what="collected")
    return trace.read_text().splitlines()


@pytest.mark.timeout(900)
def test_an_agent_killed_at_any_point_of_a_collection_loses_nothing(
    agentless: Controller, restore_storage: Callable[[], set[str]], tmp_path: Path
) -> None:
    restore_storage()
    names = places(agentless, tmp_path / "trace")
    first = next(number for number, name in enumerate(names, 1) if "history" in name)
    # Nobody writes here, so there is no phase mark. It only reads, as the scan does.
    phases = ("scan", "drain", "pin", "untag", "sweep", "cleanup", "verify")
    assert {f"garbage {phase}" for phase in phases} <= {*names}
    for number in range(first, len(names) + 1):
        # A write changes nothing before its rename, so one of the many is enough.
        if names[number - 1] == "write history.json" and number > first:
            continue
        needed = restore_storage()
        agent = Agent(agentless, SYSREG_AGENT_FAILPOINT=f"{number}:kill")
        agent.ready()
        agent.collect()
        ended = agent.process.wait(20)
        where = f"killed at {number}: {names[number - 1]}"
        assert ended == -signal.SIGKILL, where
        wait_until(lambda: not collectors(agentless), 20, pause=0.01, what="the collector has ended")
        wait_for_writes(agentless, where)
        assert needed <= Storage(agentless.paths.storage).all_blobs(), where
        assert_recovers(agentless, needed, {"interrupted", "done"})


def test_the_write_lock_stays_while_the_collector_of_a_dead_agent_lives(
    agentless: Controller, restore_storage: Callable[[], set[str]], tmp_path: Path
) -> None:
    needed = restore_storage()
    agent = Agent(
        agentless, PATH=slow_path(agentless, 15)
    )  # longer than the start of an agent on a busy machine
    agent.ready()
    agent.collect()
    (collector,) = wait_until(lambda: collectors(agentless), 20, what="the collector runs", pause=0.01)
    agent.process.send(signal.SIGKILL)
    agent.process.wait(20)
    with running(agentless):
        assert status(agentless)["state"] == "running"
        assert status(agentless)["phase"] == "recover"
        refused = agentless.system("registry-garbage-collect")
        assert refused.returncode == 1
        assert "under way" in refused.stderr
        while collector.is_running() and collector.status() != psutil.STATUS_ZOMBIE:
            open_now = writes_are_open(agentless)
            assert not open_now or not collector.is_running()
            time.sleep(0.01)
        wait_for_writes(agentless)
        wait_until(lambda: status(agentless)["state"] == "idle", 10)
        assert status(agentless)["last_result"]["outcome"] == "interrupted"
    assert_recovers(agentless, needed, {"interrupted"})


def test_the_collector_of_a_dead_agent_can_be_cancelled(
    agentless: Controller, restore_storage: Callable[[], set[str]], tmp_path: Path
) -> None:
    needed = restore_storage()
    agent = Agent(agentless, PATH=slow_path(agentless, 600))
    agent.ready()
    agent.collect()
    wait_until(
        lambda: history(agentless)["running"]["collector"], 20, what="its process id is on disk", pause=0.01
    )
    agent.process.send(signal.SIGKILL)
    agent.process.wait(20)
    with running(agentless):
        pass  # an agent that waits for the collector can be stopped
    with running(agentless):
        done = agentless.system("registry-garbage-collect", "--cancel")
        assert done.returncode == 0, done.stderr
        assert writes_are_open(agentless)
    assert_recovers(agentless, needed, {"interrupted"})


@pytest.mark.parametrize("victims", ["collector", "agent and collector", "all at once"])
def test_killed_in_the_sweep(
    agentless: Controller, restore_storage: Callable[[], set[str]], victims: str
) -> None:
    needed = restore_storage()
    with running(agentless, PATH=slow_path(agentless, 30)) as agent:
        agent.collect()
        (collector,) = wait_until(lambda: collectors(agentless), 20, what="the collector runs", pause=0.01)
        if victims != "collector":
            agent.process.send(signal.SIGKILL)
        if victims == "all at once":
            agentless.signal(TOKEN_SERVER, signal.SIGKILL)
            agentless.signal(REGISTRY, signal.SIGKILL)
        assert not writes_are_open(agentless)
        collector.kill()
        wait_for_writes(agentless)
        if victims == "all at once":
            restarted(agentless)
        if victims == "collector":
            wait_until(lambda: status(agentless)["state"] == "idle", 20)
            assert "signal 9" in status(agentless)["last_result"]["error"]
    assert_pushes(agentless)
    assert_recovers(agentless, needed, {"failed" if victims == "collector" else "interrupted"})


def test_a_token_server_killed_in_every_phase_disturbs_no_collection(
    agentless: Controller, restore_storage: Callable[[], set[str]]
) -> None:
    needed = restore_storage()
    with running(agentless, SYSREG_AGENT_FAILPOINT="garbage :stop") as agent:
        in_background(agent.collect)
        for stop in STOPS:
            wait_until(lambda: stopped(agent), 20, what=f"stopped at {stop}")
            agentless.signal(TOKEN_SERVER, signal.SIGKILL)
            restarted(agentless)
            assert writes_are_open(agentless) == (stop in ("scan", "drain")), stop
            assert history(agentless)["running"]["phase"] == ("drain" if stop == "hold" else stop)
            if stop == "scan":
                pushed_a_moment_ago(agentless)
            agent.process.send(signal.SIGCONT)
        wait_until(lambda: history(agentless)["running"] is None, 20, what="collected")
        assert status(agentless)["last_result"]["outcome"] == "done"
    assert Storage(agentless.paths.storage).all_blobs() == needed
    assert_whole(agentless)
    assert_pushes(agentless)


@pytest.mark.parametrize("phase", ["scan", "drain", "hold", "mark", "pin", "untag", "cleanup", "verify"])
def test_everything_killed_at_once_in_any_phase(
    agentless: Controller, restore_storage: Callable[[], set[str]], phase: str
) -> None:
    """As in a power cut. The test above does it in the sweep."""
    needed = restore_storage()
    agent = Agent(agentless, SYSREG_AGENT_FAILPOINT="garbage :stop")
    agent.ready()
    in_background(agent.collect)
    for stop in STOPS if phase == "mark" else [stop for stop in STOPS if stop != "mark"]:
        wait_until(lambda: stopped(agent), 20, what=f"stopped at {stop}")
        if stop == phase:
            break
        if phase == "mark" and stop == "scan":
            pushed_a_moment_ago(agentless)
        agent.process.send(signal.SIGCONT)
    assert history(agentless)["running"]["phase"] == ("drain" if phase == "hold" else phase)
    for program in (TOKEN_SERVER, REGISTRY):
        agentless.signal(program, signal.SIGKILL)
    assert writes_are_open(agentless) == (phase in ("scan", "drain"))
    agent.process.send(signal.SIGKILL)
    wait_for_writes(agentless)
    restarted(agentless)
    assert needed <= Storage(agentless.paths.storage).all_blobs()
    assert_pushes(agentless)
    assert_recovers(agentless, needed, {"interrupted"})
