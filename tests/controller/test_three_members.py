"""A controller and three workers on one network, with an etcd of three members, as the guide sets it up.

docker and containerd on each worker pull all the time while the CA of the registry's certificate changes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence

import pytest

from devstack.etcd import PACKAGES, programs
from tests.controller import load
from tests.controller.debian_root import CHECKOUT, HOST
from tests.controller.installation import configure, wait_until_served
from tests.controller.machine import ADDRESS, Machine
from tests.controller.machine_factory import DEPLOY, MachineFactory
from tests.controller.site import Site, address_of, at_once
from tests.controller.test_cluster import install_etcd

_PORT = 2479
_UNIT = "etcd.service"
#: what the guide has the operator type on each member
_SET_UP = """\
mv /root/etcd/etcd.env /etc/default/etcd
mv /root/etcd /etc/etcd
chown -R root:etcd /etc/etcd
systemctl enable --now --no-block etcd
"""
#: and then on the controller
_ENABLE = """\
export ETCDCTL_API=3 ETCDCTL_ENDPOINTS={endpoints}
export ETCDCTL_CACERT=/etc/sysreg/cluster/ca.crt ETCDCTL_CERT=/etc/sysreg/cluster/client.crt
export ETCDCTL_KEY=/etc/sysreg/cluster/client.key
etcdctl user add root --interactive=false </etc/sysreg/cluster/password
etcdctl role add root
etcdctl user grant-role root root
etcdctl auth enable
"""


def set_up_etcd(site: Site, hosts: Sequence[str]) -> None:
    """Run one member on the controller, and one on each of these workers. Do what the guide says."""
    controller = site.controller
    members = {ADDRESS: controller} | {address_of(host): site.workers[host] for host in hosts}
    shutil.copy2(CHECKOUT / "docs/examples/etcd-members", controller.share)
    controller.run("/run/share/etcd-members", "/root/etcd-members", *members)

    def start(address: str) -> None:
        machine = members[address]
        install_etcd(machine)
        unit = PACKAGES / f"etcd-{HOST}/lib/systemd/system" / _UNIT
        shutil.copy2(unit, machine.file("/etc/systemd/system"))
        shutil.copytree(controller.file(f"/root/etcd-members/{address}"), machine.file("/root/etcd"))
        machine.shell(f"install -d -o etcd -g etcd /var/lib/etcd\nsystemctl daemon-reload\n{_SET_UP}")

    at_once(start, members)
    shutil.copy2(programs(HOST) / "etcdctl", controller.file("/usr/bin/etcdctl"))
    at_once(lambda address: _wait_for_etcd(members[address]), members)
    controller.shell("mv /root/etcd-members/controller /etc/sysreg/cluster")
    endpoints = ",".join(f"https://{address}:{_PORT}" for address in members)
    controller.shell(_ENABLE.format(endpoints=endpoints))
    configure(controller, extra=f"[cluster]\nendpoints = {' '.join(f'{one}:{_PORT}' for one in members)}\n")
    controller.run(DEPLOY)
    wait_until_served(controller)


def _wait_for_etcd(machine: Machine) -> None:
    try:
        machine.wait_until(lambda: machine.show(_UNIT, "ActiveState") == "active", "etcd runs", 60)
    except AssertionError as error:
        error.add_note(machine.journal(_UNIT)[-2000:])
        raise


@pytest.fixture
def site(machines: MachineFactory, deployed: Machine) -> Iterator[Site]:
    with Site.running(machines, deployed, workers=3) as site:
        set_up_etcd(site, ["worker-1", "worker-2"])
        yield site


@pytest.mark.timeout(600)
def test_no_pull_fails_on_any_host_while_the_ca_changes_and_a_member_is_lost(site: Site) -> None:
    load.prepare(site.controller)
    at_once(site.join, site.workers)
    site.wait_for("live")
    site.start_clients()
    everywhere = dict.fromkeys(site.workers, "live")
    with site.pulling():
        first = site.install("first")
        assert {host["host"]: host["state"] for host in first["hosts"]} == everywhere
        # one member of three is lost, on a host that pulls
        site.workers["worker-2"].run("systemctl", "kill", "--signal=KILL", "--kill-who=all", _UNIT)
        site.workers["worker-2"].run("systemctl", "stop", _UNIT)
        second = site.install("second")
        assert {host["host"]: host["state"] for host in second["hosts"]} == everywhere
        assert "warnings" not in second
        assert site.states() == {"controller-0": "live", **everywhere}
    rows = site.controller.json("system", "registry-host-list", "-f", "json")
    assert len({row["certificate"] for row in rows}) == 1
    for host in site.workers:
        docker, containerd = site.trusted(host)
        assert len(docker) == 1
        assert docker == containerd
