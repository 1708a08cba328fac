"""The cluster of an embedded controller: etcd, and workers that have joined."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from devstack import etcd, workers
from devstack.endpoints import Endpoints
from devstack.errors import DevstackError
from devstack.paths import Paths
from devstack.programs import AGENT, ETCD
from devstack.waiting import NotInTime, wait_until
from devstack.workers import Worker
from sysreg_cli import settings as settings_file
from sysreg_cli.deploy.etcd import ask_for_passwords
from sysreg_cli.settings import ClusterSettings

if TYPE_CHECKING:
    from devstack.controller import Controller

_LIVE_SECONDS = 60.0


def provision(paths: Paths, endpoints: Endpoints, settings: ClusterSettings, count: int) -> None:
    """Write every file of etcd and of ``count`` workers. Data, keys and disks that exist stay."""
    etcd.provision(settings, paths.etcd)
    etcd.write_start(settings, paths.etcd_script)
    for worker in workers.named(paths.workers, count):
        worker.write(endpoints, str(paths.root))


def start(controller: Controller) -> None:
    """Start the agent and the workers, after the other programs. Workers that have not joined do so.

    Raises DevstackError if a worker is not live in time.
    """
    controller.wait_ready(ETCD)
    ask_for_passwords(settings_file.load(controller.paths.settings).cluster)
    _start(controller, AGENT)
    controller.wait_ready(AGENT)
    states = host_states(controller)
    directory, count = controller.paths.workers, controller.options.hosts
    for worker in workers.beyond(directory, count):
        if worker.name in states:
            _system(controller, "registry-host-delete", worker.name)
        worker.remove()
    for worker in workers.named(directory, count):
        if not worker.has_joined or states.get(worker.name, "joining") == "joining":
            _invite(controller, worker, states)
        _start(controller, worker.name)
    wait_live(controller)


def host_states(controller: Controller) -> dict[str, str]:
    """The state of each host, as ``system registry-host-list`` shows it."""
    rows = json.loads(_system(controller, "registry-host-list", "-f", "json"))
    return {row["host"]: row["state"] for row in rows}


def wait_live(controller: Controller) -> None:
    """Wait until every worker is live. Raises DevstackError with the end of the logs of the others."""
    late = set(controller.workers)

    def are_live() -> bool:
        late.difference_update(name for name, state in host_states(controller).items() if state == "live")
        return not late

    try:
        wait_until(are_live, _LIVE_SECONDS, what="the workers are live", pause=0.2)
    except NotInTime as error:
        logs = "".join(f"\n{name}:\n{controller.log(name)[-3000:]}" for name in sorted(late))
        raise DevstackError(f"{error}{logs}") from None


def _invite(controller: Controller, worker: Worker, states: dict[str, str]) -> None:
    """Put a new join file on the disk of a worker, on which nothing else is left."""
    if controller.supervisor.keeps(worker.name):
        controller.stop_program(worker.name)
    worker.wipe()
    if states.get(worker.name, "joining") != "joining":
        _system(controller, "registry-host-delete", worker.name)
    _system(controller, "registry-host-add", worker.name, "--file", str(worker.join_file))


def _start(controller: Controller, program: str) -> None:
    if not controller.supervisor.keeps(program):
        controller.supervisor.call("startProcess", program, False)


def _system(controller: Controller, *words: str) -> str:
    """Run ``system`` as admin. Raises DevstackError."""
    done = controller.system(*words)
    if done.returncode:
        raise DevstackError(done.stderr.strip())
    return done.stdout
