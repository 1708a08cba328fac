"""A controller and a worker, two booted machines on one network: docker and containerd on the worker pull all
the time, over an address that is not loopback, while the registry's certificate changes its CA.
"""

from __future__ import annotations

import contextlib
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import certificates as make
from tests.controller import clients
from tests.controller.installation import configure, passwords, wait_until_served
from tests.controller.machine import ADDRESS, Machine
from tests.controller.machine_factory import DEPLOY, MachineFactory
from tests.controller.test_cluster import install_etcd

_WORKER = "198.51.100.20"
_IMAGE = "testuser/pulled:1"
_PULLS = f"""\
try() {{
    if "${{@:2}}" >/dev/null 2>>/root/errors; then echo "$1" >>/root/pulled; else echo "$1" >>/root/failed; fi
}}
while ! [ -e /run/no-more-pulls ]; do
    try docker docker pull -q {clients.REGISTRY}/{_IMAGE}
    try containerd ctr images pull --hosts-dir /etc/containerd/certs.d --user "$1" {clients.REGISTRY}/{_IMAGE}
done
"""


@pytest.fixture
def controller(deployed: Machine) -> Machine:
    """A controller that runs etcd, and has an image."""
    clients.start_runtimes(deployed)
    clients.make_image(deployed, "pulled", 20_000)
    clients.login(deployed, "testuser")
    clients.push(deployed, "pulled", _IMAGE)
    configure(deployed, extra=f"[cluster]\nlisten = {ADDRESS}:2479\n")
    deployed.run(DEPLOY, status=1)
    install_etcd(deployed)
    deployed.run(DEPLOY)
    wait_until_served(deployed)
    return deployed


@pytest.fixture
def worker(machines: MachineFactory, controller: Machine) -> Iterator[Machine]:
    """A machine with sysreg on the same network."""
    with machines.installed() as machine:
        boot(machine, controller)
        yield machine


def boot(machine: Machine, controller: Machine) -> None:
    """Boot a worker, and lay a cable to the controller."""
    machine.boot()
    ends = [f"v{secrets.token_hex(4)}" for _ in range(2)]
    subprocess.run(["ip", "link", "add", ends[0], "type", "veth", "peer", "name", ends[1]], check=True)
    for end, owner in zip(ends, (controller, machine), strict=True):
        subprocess.run(["ip", "link", "set", end, "netns", str(owner._init)], check=True)
        owner.run("ip", "link", "set", end, "up")
    # a new cable after a reboot takes the route over
    controller.run("ip", "route", "replace", f"{_WORKER}/32", "dev", ends[0])
    machine.run("ip", "address", "del", f"{ADDRESS}/32", "dev", "lo")
    machine.run("ip", "address", "add", f"{_WORKER}/32", "dev", ends[1])
    machine.run("ip", "route", "replace", f"{ADDRESS}/32", "dev", ends[1], "src", _WORKER)


@contextlib.contextmanager
def pulling(worker: Machine) -> Iterator[None]:
    """Pull all the time. Raises AssertionError if one pull fails, or none succeeds."""
    user = f"testuser:{passwords(worker)['testuser']}"
    worker.shell("cd /root; rm -f /run/no-more-pulls pulled failed errors; touch pulled failed errors")
    process = worker.popen("bash", "-c", _PULLS, "pulls", user)
    try:
        yield
        before = count(worker)
        worker.wait_until(lambda: count(worker) >= before + 4, "pulls go on", 60)
    finally:
        worker.shell("touch /run/no-more-pulls")
        process.communicate(timeout=120)
    errors = worker.file("/root/errors").read_text()
    assert worker.file("/root/failed").read_text() == "", errors
    assert set(worker.file("/root/pulled").read_text().split()) == {"docker", "containerd"}


def count(worker: Machine) -> int:
    return len(worker.file("/root/pulled").read_text().split())


def certificate(controller: Machine, name: str) -> str:
    """A file on the controller with a certificate of a CA of its own."""
    root = make.authority(name)
    leaf = make.server(root, names=["registry.local", ADDRESS])
    path = controller.share / f"{name}.pem"
    path.write_bytes(make.bundle(leaf, root))
    return f"/run/share/{path.name}"


def hosts(controller: Machine) -> dict[str, str]:
    """The state of each host, as the list shows it."""
    rows = controller.json("system", "registry-host-list", "-f", "json")
    return {row["host"]: row["state"] for row in rows}


def join_file(controller: Machine, worker: Machine) -> str:
    controller.run("system", "registry-host-add", "worker-1", "--file", "/root/join.json")
    copy(controller.file("/root/join.json"), worker.share / "join.json")
    controller.run("rm", "/root/join.json")
    return "/run/share/join.json"


def copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())
    target.chmod(0o600)


def secrets_on(controller: Machine) -> Iterator[bytes]:
    """The middle of each private key, and each password, below /etc/sysreg."""
    for path in sorted(controller.file("/etc/sysreg").rglob("*")):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            if b"PRIVATE KEY" in content:
                yield content.splitlines()[1]
            elif path.name in ("password", "registry.env"):
                yield content.strip().rpartition(b"=")[2]


def is_on_disk(secret: bytes, disk: Path) -> bool:
    """Whether a file of the disk, which holds all that the machine has written, contains it."""
    pattern = secret.splitlines()[1] if b"PRIVATE KEY" in secret else secret
    found = subprocess.run(["grep", "-rlF", "-f", "-", disk], input=pattern, capture_output=True, check=False)
    return found.returncode == 0


def everything_in_etcd(controller: Machine) -> bytes:
    script = (
        "from sysreg_cli import settings; from sysreg_cli.cluster.etcd import EtcdStore;"
        " from sysreg_cli.cluster.membership import access;"
        " entries = EtcdStore(access(settings.load().cluster)).list('/').entries.values();"
        " print(*(entry.value for entry in entries))"
    )
    shown = controller.run("/opt/sysreg/bin/python", "-c", script).stdout.encode()
    assert b"worker-1" in shown or b"change" in shown
    return shown


def test_a_worker_joins_and_pulls_through_changes_of_the_ca(controller: Machine, worker: Machine) -> None:
    assert hosts(controller) == {"controller-0": "live"}
    path = join_file(controller, worker)
    assert hosts(controller)["worker-1"] == "joining"
    joined = worker.run(DEPLOY, "--join", path)
    assert joined.stdout.splitlines()[-1].startswith("done: ")
    worker.wait_until(lambda: hosts(controller)["worker-1"] == "live", "the worker is live", 30)
    assert worker.run(DEPLOY).stdout == "done: no changes, host worker-1 of the cluster\n"
    worker.run(DEPLOY, "--check")
    again = worker.run(DEPLOY, "--join", path, status=1).stderr
    assert "belongs to a cluster already, as host worker-1" in again

    secrets_of_controller = list(secrets_on(controller))
    assert len(secrets_of_controller) >= 7
    for secret in secrets_of_controller:
        assert not is_on_disk(secret, worker.disk), "a secret of the controller is on the worker"
        assert secret not in everything_in_etcd(controller)
    own = worker.file("/etc/sysreg/cluster/client.key").read_bytes()
    assert is_on_disk(own, worker.disk)
    assert not is_on_disk(own, controller.disk)

    clients.start_runtimes(worker)
    clients.login(worker, "testuser")
    with pulling(worker):
        for name in ("first", "second"):
            file = certificate(controller, name)
            installed = controller.json(
                "system", "certificate-install", "-m", "docker_registry", "-f", "json", file
            )
            assert [(host["host"], host["state"]) for host in installed["hosts"]] == [("worker-1", "live")]
    trusted = worker.shell("ls /etc/docker/certs.d/registry.local:9001 | wc -l").stdout
    assert trusted == "1\n"

    # CA certificates: the sandbox lets Debian's own command rebuild the system's bundle
    authority = make.authority("Company")
    (controller.share / "ca.pem").write_bytes(authority.pem)
    installed = controller.json(
        "system", "certificate-install", "-m", "ssl_ca", "-f", "json", "/run/share/ca.pem"
    )
    assert [host["state"] for host in installed[0]["hosts"]] == ["live"]
    assert authority.pem in worker.file("/etc/ssl/certs/ca-certificates.crt").read_bytes()

    # a change while the worker is off
    worker.power_off()
    worker.wait_until(lambda: hosts(controller)["worker-1"] == "down", "the worker is down", 40)
    third = certificate(controller, "third")
    refused = controller.run(
        *("system", "certificate-install", "-m", "docker_registry", "--require-all-hosts", third), status=1
    )
    assert "host worker-1 is down, and every host is required" in refused.stderr
    installed = controller.run("system", "certificate-install", "-m", "docker_registry", third)
    assert "1 down (worker-1)" in installed.stdout
    boot(worker, controller)
    worker.wait_until(lambda: hosts(controller)["worker-1"] == "live", "the worker is current", 30)
    clients.start_runtimes(worker)
    with pulling(worker):
        pass

    # the end of the worker
    worker.run(DEPLOY, "--remove")
    assert authority.pem not in worker.file("/etc/ssl/certs/ca-certificates.crt").read_bytes()
    for gone in ("/etc/sysreg/cluster", "/var/lib/sysreg", "/etc/systemd/system/sysreg-host.service"):
        assert not worker.file(gone).exists(), gone
    assert controller.run("system", "registry-host-delete", "worker-1").stdout == "Host worker-1 deleted\n"
    assert hosts(controller) == {"controller-0": "live"}
    refused = worker.run(DEPLOY, "--join", path, status=1)
    assert "it may not accept this client's certificate" in refused.stderr
    assert "or the host was deleted, make a new one" in refused.stderr
    assert not worker.file("/etc/sysreg/cluster").exists()
