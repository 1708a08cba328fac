"""A controller that runs etcd, and a worker: how it joins, what is on it, and how it goes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import certificates as make
from tests.controller import load
from tests.controller.installation import configure, wait_until_served
from tests.controller.machine import ADDRESS, Machine
from tests.controller.machine_factory import DEPLOY, MachineFactory
from tests.controller.site import Site
from tests.controller.test_cluster import install_etcd

_HOST = "worker-1"
_ETCD_LOG = "./var/lib/sysreg-etcd/data/member/wal/"


@pytest.fixture
def site(machines: MachineFactory, deployed: Machine) -> Iterator[Site]:
    configure(deployed, extra=f"[cluster]\nlisten = {ADDRESS}:2479\n")
    deployed.run(DEPLOY, status=1)
    install_etcd(deployed)
    deployed.run(DEPLOY)
    wait_until_served(deployed)
    load.prepare(deployed)
    with Site.running(machines, deployed, workers=1) as site:
        yield site


def secrets_on(controller: Machine) -> Iterator[bytes]:
    """The middle of each private key, and each password, below /etc/sysreg."""
    for path in sorted(controller.file("/etc/sysreg").rglob("*")):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            if b"PRIVATE KEY" in content:
                yield content.splitlines()[1]
            elif path.name in ("password", "registry.env"):
                yield content.strip().rpartition(b"=")[2]


def on_disk(secret: bytes, disk: Path) -> list[str]:
    """The files that contain it on the disk, which holds all that the machine has written."""
    pattern = secret.splitlines()[1] if b"PRIVATE KEY" in secret else secret
    found = subprocess.run(["grep", "-rlF", "-f", "-", "."], cwd=disk, input=pattern, capture_output=True)
    assert found.returncode in (0, 1), found.stderr
    return found.stdout.decode().splitlines()


def everything_in_etcd(controller: Machine) -> bytes:
    """Each key and each value, below whatever prefix."""
    script = (
        "from sysreg_cli import settings; from sysreg_cli.cluster.gateway import decode;"
        " from sysreg_cli.cluster.membership import access;"
        " from sysreg_cli.cluster.servers import Limits, Servers;"
        " servers = Servers(access(settings.load().cluster), Limits());"
        " answer = servers.call('kv/range', {'key': 'AA==', 'range_end': 'AA=='}, 'read all');"
        " print(*(decode(kv[part]) for kv in answer['kvs'] for part in ('key', 'value')))"
    )
    shown = controller.run("/opt/sysreg/bin/python", "-c", script).stdout.encode()
    assert f"hosts/{_HOST}/spec".encode() in shown
    return shown


def require_no_secret_elsewhere(site: Site) -> None:
    """Raise AssertionError if a secret is in etcd, or on a host that it does not belong to."""
    controller, worker = site.controller, site.workers[_HOST]
    secrets, stored = list(secrets_on(controller)), everything_in_etcd(controller)
    assert len(secrets) >= 7
    for secret in secrets:
        assert on_disk(secret, worker.disk) == [], "a secret of the controller is on the worker"
        assert secret not in stored
    assert b"PRIVATE KEY" not in stored
    for name in ("client.key", "password"):
        own = worker.file(f"/etc/sysreg/cluster/{name}").read_bytes().strip()
        assert on_disk(own, worker.disk) == [f"./etc/sysreg/cluster/{name}"]
        # etcd 3.4 writes new passwords into its log (docs/behaviour.rst, "etcd")
        kept = [path for path in on_disk(own, controller.disk) if not path.startswith(_ETCD_LOG)]
        assert kept == [], "the controller keeps the credential of a worker"
        assert own not in stored


@pytest.mark.timeout(600)
def test_a_worker_joins_and_pulls_through_changes_of_the_ca(site: Site) -> None:
    controller, worker = site.controller, site.workers[_HOST]
    assert site.states() == {"controller-0": "live"}
    path = site.join_file(_HOST)
    assert site.states()[_HOST] == "joining"
    joined = worker.run(DEPLOY, "--join", path)
    assert joined.stdout.splitlines()[-1].startswith("done: ")
    site.wait_for("live")
    assert worker.run(DEPLOY).stdout == "done: no changes, host worker-1 of the cluster\n"
    worker.run(DEPLOY, "--check")
    again = worker.run(DEPLOY, "--join", path, status=1).stderr
    assert "belongs to a cluster already, as host worker-1" in again

    site.start_clients()
    with site.pulling():
        for name in ("first", "second"):
            assert [host["state"] for host in site.install(name)["hosts"]] == ["live"]
    assert [len(trusted) for trusted in site.trusted(_HOST)] == [1, 1]
    require_no_secret_elsewhere(site)

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
    site.wait_for("down")
    third = site.certificate("third")
    refused = controller.run(
        *("system", "certificate-install", "-m", "docker_registry", "--require-all-hosts", third), status=1
    )
    assert "host worker-1 is down, and every host is required" in refused.stderr
    installed = controller.run("system", "certificate-install", "-m", "docker_registry", third)
    assert "1 down (worker-1)" in installed.stdout
    site.boot(_HOST)
    site.wait_for("live")
    site.start_clients()
    with site.pulling():
        pass

    # the end of the worker
    worker.run(DEPLOY, "--remove")
    assert authority.pem not in worker.file("/etc/ssl/certs/ca-certificates.crt").read_bytes()
    for gone in ("/etc/sysreg/cluster", "/var/lib/sysreg", "/etc/systemd/system/sysreg-host.service"):
        assert not worker.file(gone).exists(), gone
    assert controller.run("system", "registry-host-delete", _HOST).stdout == "Host worker-1 deleted\n"
    assert site.states() == {"controller-0": "live"}
    refused = worker.run(DEPLOY, "--join", path, status=1)
    assert "it may not accept this client's certificate" in refused.stderr
    assert "or the host was deleted, make a new one" in refused.stderr
    assert not worker.file("/etc/sysreg/cluster").exists()
