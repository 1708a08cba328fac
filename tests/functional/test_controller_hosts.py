"""``make run HOSTS=2``: the embedded controller with workers, each with a network and an /etc of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack import ports
from devstack.__main__ import Installation, main
from devstack.controller import Controller
from devstack.endpoints import NAMESPACE_ADDRESS, USUAL_PORTS
from devstack.keystone_server import CHECKOUT
from devstack.programs import REGISTRY
from devstack.waiting import wait_until
from tests import certificates as make


class MakeRun:
    """What ``make run HOSTS=2`` has started."""

    def __init__(self, installation: Installation) -> None:
        self.installation = dataclasses.replace(installation, hosts=2)
        self.controller = self.installation.controller
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            assert main(["up", "2"], installation) == 0
        self.printed = printed.getvalue()
        self.controller.start()

    def with_hosts(self, hosts: int) -> Controller:
        return dataclasses.replace(self.installation, hosts=hosts).controller

    def shell(self, command: str, user: str = "admin") -> subprocess.CompletedProcess[str]:
        """Type a command beside .run."""
        return subprocess.run(
            ["bash", "-c", command],
            env=self.controller.environ(user),
            cwd=self.installation.run.parent,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def states(self) -> dict[str, str]:
        rows = json.loads(self.shell("system registry-host-list -f json").stdout)
        return {row["host"]: row["state"] for row in rows}


@pytest.fixture(scope="module")
def make_run() -> Iterator[MakeRun]:
    free = dict(zip(USUAL_PORTS, ports.free_ports(len(USUAL_PORTS)), strict=True))
    with tempfile.TemporaryDirectory(prefix="devstack-", dir="/var/tmp") as directory:
        place = Path(directory)
        place.chmod(0o755)
        (place / ".run").mkdir()
        installation = Installation(place / "root", place / ".run", free)
        try:
            yield MakeRun(installation)
        finally:
            main(["remove"], installation)


def test_the_tour_shows_a_worker_that_was_down_and_got_the_certificate_when_it_was_back(
    make_run: MakeRun,
) -> None:
    lists = make_run.printed.split("system registry-host-list\n")[1:]
    states = [dict(re.findall(r"\| (\S+) +\| (?:controller|worker) +\| (\w+) ", shown)) for shown in lists]
    live = {"controller-0": "live", "worker-1": "live", "worker-2": "live"}
    assert states == [live, {**live, "worker-2": "down"}, live]
    hosts = re.findall(r"^\| hosts +\| (.*?) +\|$", make_run.printed, re.MULTILINE)
    assert hosts == ["2 live", "1 live, 1 down (worker-2)"]


def test_a_worker_pulls_over_an_address_that_is_not_loopback_and_by_its_own_trust(make_run: MakeRun) -> None:
    controller = make_run.controller
    assert f"{NAMESPACE_ADDRESS} registry.local" in make_run.shell(".run/worker-1 cat /etc/hosts").stdout
    # the settings of the worker, although openrc names those of the controller
    shown = make_run.shell(".run/worker-1 sh -c 'cat ${SYSREG_CONF-/etc/sysreg/sysreg.conf}'").stdout
    assert "host = worker-1" in shown
    address = controller.address
    pull = f".run/worker-1 skopeo inspect --raw docker://{address}/public/tools:1.0"
    assert make_run.shell(pull, "testuser").returncode == 0
    # without its trust it does not pull, whatever the controller and the other worker trust
    controller.signal("worker-1", signal.SIGSTOP)
    trust = f"/etc/docker/certs.d/{address}"
    assert make_run.shell(f".run/worker-1 sh -c 'rm {trust}/*'").returncode == 0
    assert "x509" in make_run.shell(pull, "testuser").stderr
    for elsewhere in (f"ls {trust}/*", f".run/worker-2 sh -c 'ls {trust}/*'"):
        assert make_run.shell(elsewhere).returncode == 0
    controller.signal("worker-1", signal.SIGCONT)
    wait_until(lambda: make_run.shell(pull, "testuser").returncode == 0, what="sysreg-host repairs the trust")


def test_a_ca_certificate_reaches_the_workers_and_this_machine_stays_as_it_was(
    make_run: MakeRun, tmp_path: Path
) -> None:
    authority = make.authority("make run")
    file = tmp_path / "ca.pem"
    file.write_bytes(authority.pem)
    installed = make_run.shell(f"system certificate-install -m ssl_ca --wait 60 -f json {file}")
    (shown,) = json.loads(installed.stdout)
    assert [host["state"] for host in shown["hosts"]] == ["live", "live"]
    bundle = "/etc/ssl/certs/ca-certificates.crt"
    pem = authority.pem.decode()
    assert pem in make_run.shell(f".run/worker-2 cat {bundle}").stdout
    assert pem not in Path(bundle).read_text()


def test_a_second_start_changes_nothing_and_starts_workers_that_were_stopped(make_run: MakeRun) -> None:
    controller = make_run.controller
    before = {name: controller.pid(name) for name in controller.programs}
    controller.stop_program("worker-2")
    stopped = make_run.shell(".run/worker-2 true")
    assert (stopped.returncode, stopped.stderr) == (1, "worker-2 is down\n")
    controller.start()
    after = {name: controller.pid(name) for name in controller.programs}
    assert after.pop("worker-2") not in (0, before.pop("worker-2"))
    assert after == before


def test_a_worker_that_somebody_deleted_joins_again_with_the_next_start(make_run: MakeRun) -> None:
    assert make_run.shell("system registry-host-delete worker-1").returncode == 0
    make_run.controller.start()
    assert make_run.states() == {"controller-0": "live", "worker-1": "live", "worker-2": "live"}


# the last one: it starts other workers than those of make_run
def test_after_a_stop_a_worker_keeps_what_it_has_and_other_numbers_of_workers_may_be_started(
    make_run: MakeRun,
) -> None:
    two, one = make_run.controller, make_run.with_hosts(1)
    password = two.workers["worker-1"].path("/etc/sysreg/cluster/password")
    before = password.read_text()
    two.stop()
    assert not two.supervisor.processes()
    one.start()
    assert password.read_text() == before
    assert make_run.states() == {"controller-0": "live", "worker-1": "live"}
    assert not two.workers["worker-2"].root.exists()
    one.stop()
    none = Controller(two.paths.root, dataclasses.replace(two.options, hosts=0, programs=[REGISTRY]))
    none.start()
    assert [info["name"] for info in none.supervisor.call("getAllProcessInfo")] == [REGISTRY]
    assert "[cluster]" not in none.paths.settings.read_text()


@pytest.mark.parametrize("hosts", ["bad", "200", "-1", "1 2"])
def test_a_wrong_number_of_workers_is_one_clear_line(hosts: str) -> None:
    done = subprocess.run(
        ["make", "run", f"HOSTS={hosts}"], cwd=CHECKOUT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    line, _make = done.stderr.splitlines()
    assert line == f"prepare: HOSTS={hosts} is no number of workers: give one from 0 to 9"
