"""A controller with a cluster, as the operator uses it: add a host, install, look, delete."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from devstack import images
from devstack.controller import Controller
from devstack.endpoints import HOST_NAME
from devstack.options import Options
from devstack.waiting import wait_until
from sysreg_cli.cluster.membership import access
from tests import certificates as make
from tests.deployed_etcd import DeployedEtcd, deployed_etcd
from tests.functional.conftest import NewController
from tests.functional.worker.processes import WorkerProcess
from tests.functional.worker.site import Site


@pytest.fixture(scope="module")
def etcd() -> Iterator[DeployedEtcd]:
    with deployed_etcd("trixie") as etcd:
        yield etcd


@pytest.fixture(scope="module")
def controller(etcd: DeployedEtcd, new_controller: NewController) -> Iterator[Controller]:
    cluster = {"endpoints": str(etcd.settings.listen), "directory": str(etcd.settings.directory)}
    with new_controller(Options(settings={"cluster": {**cluster, "host": "controller-0"}})) as controller:
        yield controller


@pytest.fixture(scope="module")
def site(controller: Controller, etcd: DeployedEtcd, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(controller, access(etcd.settings), tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def worker(site: Site) -> Iterator[WorkerProcess]:
    worker = site.join("worker-1")
    worker.start()
    site.wait_for("worker-1", "live")
    yield worker
    worker.kill()


def test_before_a_host_joins_it_is_shown_as_joining(site: Site) -> None:
    assert site.states() == {"controller-0": "live"}
    site.system("registry-host-add", "Worker-9", "--file", str(site.root / "worker-9.json"))
    assert site.states() == {"controller-0": "live", "worker-9": "joining"}
    shown = site.json("registry-host-show", "WORKER-9")
    assert shown["reason"] == "the host has never reported"
    assert site.system("registry-host-delete", "Worker-9") == "Host worker-9 deleted\n"
    assert site.states() == {"controller-0": "live"}


def test_an_install_reaches_the_host_and_says_so(site: Site, worker: WorkerProcess) -> None:
    shown = site.install("first")
    assert "| hosts " in shown
    assert "1 live" in shown
    (host,) = site.json("certificate-show", "docker_registry")["hosts"]
    row = next(row for row in site.json("registry-host-list") if row["host"] == worker.name)
    certificate = site.json("certificate-show", "docker_registry")["signature"]
    assert host["state"] == row["state"] == "live"
    assert host["certificate"] == row["certificate"] == certificate


def test_a_host_that_is_frozen_stops_the_install_and_is_named(site: Site, worker: WorkerProcess) -> None:
    before = site.json("certificate-show", "docker_registry")["uuid"]
    worker.signal(signal.SIGSTOP)
    try:
        refused = site.install("second", status=1)
        assert "no answer within 5 s: host worker-1 is behind" in refused
        assert "the old certificate is still in use" in refused
        assert site.json("certificate-show", "docker_registry")["uuid"] == before
    finally:
        worker.signal(signal.SIGCONT)
    site.wait_for("worker-1", "live")


#: $0 is containerd's certs.d with what is trusted now, $1 the daemon
_READ_ONLY = "mount --bind $0 $0 && mount -o remount,bind,ro $0 && exec $1"
_FULL = (
    "cp -a $0 $0.aside && mount -t tmpfs -o size=16k full $0 && cp -a $0.aside/. $0 && rm -r $0.aside\n"
    "cat /dev/zero >$0/fill 2>/dev/null; exec $1"
)


@pytest.mark.parametrize(
    ("mount", "reason"),
    [(_READ_ONLY, "Read-only file system"), (_FULL, "No space left on device")],
    ids=["read-only", "full"],
)
def test_a_host_that_cannot_write_stops_the_install_and_nothing_has_changed(
    site: Site, worker: WorkerProcess, mount: str, reason: str
) -> None:
    before = site.json("certificate-show", "docker_registry")["uuid"]
    docker = worker.docker / f"{HOST_NAME}:{site.controller.ports['registry']}"
    trusted = make.pems_in(docker.glob("*.crt"))
    worker.kill()
    worker.start(
        *("unshare", "--mount", "--propagation", "private", "sh", "-c", mount, str(worker.containerd))
    )
    try:
        site.wait_for("worker-1", "live")
        refused = site.install(f"on a disk: {reason}", status=1)
        assert "host worker-1 is failed" in refused
        assert f"{worker.containerd}" in refused
        assert reason in refused
        assert site.json("certificate-show", "docker_registry")["uuid"] == before
        site.wait_for("worker-1", "live")
        assert make.pems_in(docker.glob("*.crt")) == trusted
    finally:
        worker.kill()
        worker.start()
    site.wait_for("worker-1", "live")


def test_a_host_that_is_down_gets_it_later(site: Site, worker: WorkerProcess) -> None:
    seen = site.json("registry-host-show", "worker-1")["certificate"]
    assert seen.startswith("docker_registry_")
    assert worker.terminate() == 0
    site.wait_for("worker-1", "down")
    refused = site.install("third", "--require-all-hosts", status=1)
    assert "host worker-1 is down, and every host is required" in refused
    installed = json.loads(site.install("fourth", "-f", "json"))
    assert [host["state"] for host in installed["hosts"]] == ["down"]
    assert site.json("registry-host-show", "worker-1")["certificate"] == seen, "the one before"
    assert "worker-1 is down since" in installed["warnings"][0]
    worker.start()
    site.wait_for("worker-1", "live")


def test_the_health_of_the_registry_includes_its_hosts(site: Site, worker: WorkerProcess) -> None:
    all_live = ("ok", "2 of 2 hosts live")
    assert health_of_hosts(site) == all_live
    assert worker.terminate() == 0
    site.wait_for("worker-1", "down")
    shown = site.json("registry-host-show", "worker-1")
    assert health_of_hosts(site) == (
        "warning",
        f"1 of 2 hosts live; worker-1 is down since {shown['since']}: {shown['reason']}; {shown['remedy']}",
    )
    worker.start()  # what `systemctl status sysreg-host` there leads to
    wait_until(lambda: health_of_hosts(site) == all_live, 40, what="all hosts are live", pause=0.5)


def health_of_hosts(site: Site, *, status: int = 0) -> tuple[str, str]:
    """The row of the hosts, as root gets it without Keystone: its status, and the detail."""
    environ = dict.fromkeys(("OS_USERNAME", "OS_PASSWORD", "OS_AUTH_URL", "OS_PROJECT_NAME"), "")
    words = ("registry-health-query", "--check", "hosts", "-f", "json")
    done = site.controller.system(*words, env=environ)
    assert done.returncode == status, done
    (row,) = json.loads(done.stdout)
    return row["status"], row["detail"]


def test_ca_certificates_reach_the_host_and_leave_it(site: Site, worker: WorkerProcess) -> None:
    one, two = make.authority("One"), make.authority("Two")
    site.authorities("both", one, two)
    shown = site.install_authorities("both")
    assert shown.count("| hosts ") == 2
    assert shown.count("1 live") == 2
    assert verifies(worker, one)
    assert verifies(worker, two)
    name = f"ssl_ca_{one.certificate.serial_number}"
    (host,) = site.json("certificate-show", name)["hosts"]
    assert (host["host"], host["state"]) == ("worker-1", "live")
    (removed,) = site.json("certificate-uninstall", name)
    assert [host["state"] for host in removed["hosts"]] == ["live"]
    assert not verifies(worker, one)
    assert verifies(worker, two)
    again = site.system("certificate-uninstall", f"ssl_ca_{two.certificate.serial_number}")
    assert again.splitlines()[1:] == ["Hosts: 1 live"]
    assert not verifies(worker, two)


def verifies(worker: WorkerProcess, authority: make.Issued) -> bool:
    """Whether a program on the worker accepts a server of that CA."""
    leaf = worker.root / "leaf.crt"
    leaf.write_bytes(make.server(authority).pem)
    command = ["openssl", "verify", "-CAfile", str(worker.bundle), str(leaf)]
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0


_MOUNTS = {
    "No space left on device": "mount -t tmpfs -o size=4k,nr_inodes=1 full $0",
    "Read-only file system": "mount --bind $0 $0 && mount -o remount,bind,ro $0",
}


@pytest.mark.parametrize("reason", _MOUNTS)
def test_a_host_that_cannot_take_ca_certificates_is_named_and_gets_them_when_it_can(
    site: Site, worker: WorkerProcess, reason: str
) -> None:
    worker.terminate()
    mount = f"{_MOUNTS[reason]} && exec $1"
    worker.start("unshare", "--mount", "--propagation", "private", "sh", "-c", mount, str(worker.system))
    site.wait_for("worker-1", "live")
    name = reason.split()[0]
    failed = site.install_authorities(name, "--wait", "2", status=1)
    assert "installed on this controller, but not on every host: host worker-1 is failed: " in failed
    assert f"{worker.system}" in failed
    assert reason in failed
    shown = site.json("registry-host-show", "worker-1")
    assert shown["state"] == "failed"
    assert shown["reason"].startswith("CA certificates: ")
    assert shown["remedy"].endswith("sysreg-host tries again by itself")
    found, detail = health_of_hosts(site, status=1)
    assert found == "failed"
    assert detail.startswith("1 of 2 hosts live; worker-1 is failed since ")
    assert detail.endswith(f"{shown['reason']}; {shown['remedy']}")
    worker.terminate()
    worker.start()
    site.wait_for("worker-1", "live")
    # the registry's own certificate is in the list, and one of the administrator's in the bundle
    assert worker.bundle.read_text().count("BEGIN") == len(site.json("certificate-list"))


def test_a_host_that_is_down_gets_ca_certificates_later(site: Site, worker: WorkerProcess) -> None:
    worker.terminate()
    refused = site.install_authorities("required", "--require-all-hosts", status=1)
    assert "host worker-1 is down, and every host is required" in refused
    before = site.json("certificate-list")
    installed = json.loads(site.install_authorities("later", "-f", "json"))
    assert [host["state"] for host in installed[0]["hosts"]] == ["down"]
    assert "worker-1 is down since" in installed[0]["warnings"][0]
    assert len(site.json("certificate-list")) == len(before) + 1
    worker.start()
    site.wait_for("worker-1", "live")
    assert "later" in bundle_of(worker)


def bundle_of(worker: WorkerProcess) -> str:
    """The subjects of the CA certificates in the bundle of a worker."""
    found = x509.load_pem_x509_certificates(worker.bundle.read_bytes())
    return " ".join(one.subject.rfc4514_string() for one in found)


def test_without_etcd_all_goes_on_but_the_commands_that_need_it(
    site: Site, worker: WorkerProcess, etcd: DeployedEtcd
) -> None:
    """As long as it takes: etcd forgets every token at its start, as it does after an hour."""
    trusted = site.trusted(worker)
    etcd.stop()
    try:
        for words in (("registry-host-list",), ("registry-host-add", "worker-2", "--file", "/tmp/none.json")):
            assert str(etcd.settings.listen) in site.system(*words, status=1)
        assert str(etcd.settings.listen) in site.install("fifth", status=1)
        assert str(etcd.settings.listen) in site.install_authorities("without etcd", status=1)
        # what does not need it goes on: logins, pushes and pulls, too
        image, client = images.single(), site.controller.client("testuser")
        client.push("testuser/meanwhile", "1", image)
        assert client.is_whole("testuser/meanwhile", "1")
        assert "without etcd" not in json.dumps(site.json("certificate-list"))
        assert "the hosts are not known" in site.system("certificate-show", "docker_registry")
        assert not Path("/tmp/none.json").exists()
        found, detail = health_of_hosts(site, status=1)
        assert found == "failed"
        assert f"etcd cannot be used: {etcd.settings.listen}: " in detail
        assert detail.endswith("check that etcd runs at these addresses, and the network to them")
        assert site.trusted(worker) == trusted
    finally:
        etcd.start()
    site.wait_for("worker-1", "live")
    site.install("sixth")


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (("registry-host-add", "a/b"), 1, "is not a host name"),
        (("registry-host-add", "controller-0"), 1, "is the name of this controller"),
        (("registry-host-add", "worker-1"), 1, "has joined already"),
        (("registry-host-show", "nobody"), 1, "no host nobody"),
        (("registry-host-delete", "nobody"), 1, "no host nobody"),
        (("registry-host-delete", "controller-0"), 1, "is the controller itself"),
        (("registry-host-add",), 2, "HOST"),
    ],
)
def test_bad_input_is_one_line(
    site: Site, worker: WorkerProcess, words: tuple[str, ...], status: int, text: str, tmp_path: Path
) -> None:
    file = ("--file", str(tmp_path / "join.json")) if words[0].endswith("add") else ()
    refused = site.system(*words, *file, status=status)
    assert text in refused
    assert len(refused.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_deleted_host_is_refused_by_etcd(site: Site, worker: WorkerProcess) -> None:
    site.system("registry-host-delete", "worker-1")
    worker.kill()
    worker.start()
    wait_until(
        lambda: "etcd refuses the password of user host-worker-1" in worker.log(), what="it is refused"
    )
    assert site.states() == {"controller-0": "live"}
