"""Workers as processes on a real etcd: what an operator sees when hosts, servers and disks fail."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator

import pytest

from devstack.bridge import Machine
from devstack.waiting import wait_until
from sysreg_cli.cluster.etcd import EtcdStore
from sysreg_cli.cluster.judgement import State
from sysreg_cli.cluster.keys import CERTIFICATE, Part, host_key
from sysreg_cli.cluster.port import EPOCH, Put, User
from sysreg_cli.cluster.records import DesiredCertificate, Phase
from sysreg_cli.errors import NotAuthorized
from tests import certificates as make
from tests.etcd_cluster import EtcdCluster
from tests.functional.worker.inprocess import desired
from tests.functional.worker.processes import Fleet, WorkerProcess
from tests.functional.worker.registry import NAME, Registry

CAS = [make.authority(f"CA {number}") for number in range(2)]
LEAVES = [make.server(authority, names=[NAME]) for authority in CAS]
#: MiB of resident memory of one sysreg-host
MAX_MEMORY = 40


class Site:
    """A registry, etcd and three workers. Its changes alternate between two CAs."""

    def __init__(self, fleet: Fleet, registry: Registry) -> None:
        self.fleet = fleet
        self.registry = registry
        self.number = 0

    def change(self, hosts: list[str]) -> None:
        """Install the certificate of the other CA, and wait until these hosts are live."""
        self.trust()
        self.fleet.wait_for(State.TRUSTED, hosts)
        self.settle()
        self.fleet.wait_for(State.LIVE, hosts)

    def trust(self) -> None:
        self.number += 1
        self._publish(Phase.TRUST)

    def settle(self) -> None:
        self.registry.present(LEAVES[self.number % 2])
        self._publish(Phase.SETTLE)

    def _publish(self, phase: Phase) -> None:
        self.fleet.publish(self.wanted(phase))

    def wanted(self, phase: Phase = Phase.SETTLE) -> DesiredCertificate:
        new, old = self.number % 2, (self.number + 1) % 2
        return desired(self.number, phase, LEAVES[new], [CAS[new]], [CAS[old]], port=self.registry.port)

    def trusted(self, worker: WorkerProcess) -> list[bytes]:
        """What docker on a worker trusts."""
        directory = worker.docker / f"{NAME}:{self.registry.port}"
        return make.pems_in(directory.glob("*.crt"))


@pytest.fixture(scope="module")
def etcd() -> Iterator[EtcdCluster]:
    with EtcdCluster.running("bookworm") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def site(etcd: EtcdCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("site")
    with Registry(tmp_path_factory.mktemp("registry")) as registry, Fleet(etcd, root) as fleet:
        site = Site(fleet, registry)
        machine = Machine(root / "machine", "w3", "198.51.100.20", {NAME: "198.51.100.1"})
        try:
            fleet.add("w1")
            fleet.add("w2")
            fleet.add("w3", machine)
            site.settle()
            fleet.wait_for(State.LIVE)
            yield site
        finally:
            machine.close()


def test_a_change_reaches_every_host_and_one_that_was_down_when_it_is_back(site: Site) -> None:
    gone = site.fleet.workers["w2"]
    gone.kill()
    site.fleet.end_lease("w2")
    site.change(["w1", "w3"])
    site.change(["w1", "w3"])
    assert site.fleet.judgements()["w2"].state is State.DOWN
    gone.start()
    site.fleet.wait_for(State.LIVE)
    assert site.trusted(gone) == [CAS[site.number % 2].pem]


def test_a_host_without_a_network_during_changes_is_current_when_it_is_back(site: Site) -> None:
    """Nothing is restarted there, neither the machine nor its daemon."""
    away = site.fleet.workers["w3"]
    assert away.machine is not None
    before, pid = site.trusted(away), away.pid
    with away.machine.without_network():
        site.fleet.end_lease("w3")
        site.change(["w1", "w2"])
        assert site.trusted(away) == before
    site.fleet.wait_for(State.LIVE)
    assert site.trusted(away) == [CAS[site.number % 2].pem]
    assert away.pid == pid


def test_a_host_that_was_frozen_during_a_change_is_current_afterwards(site: Site) -> None:
    frozen = site.fleet.workers["w2"]
    frozen.signal(signal.SIGSTOP)
    try:
        site.change(["w1", "w3"])
    finally:
        frozen.signal(signal.SIGCONT)
    site.fleet.wait_for(State.LIVE)


def test_a_host_that_stops_is_shown_as_down_at_once(site: Site) -> None:
    worker = site.fleet.workers["w1"]
    assert worker.terminate() == 0
    assert site.fleet.judgements()["w1"].state is State.DOWN
    worker.start()
    site.fleet.wait_for(State.LIVE)


def test_a_full_disk_stops_the_change_on_that_host_alone_and_is_named(site: Site) -> None:
    full = site.fleet.workers["w1"]
    full.kill()
    mount = "mount -t tmpfs -o size=4k,nr_inodes=8 full $0 && exec $1"
    full.start("unshare", "--mount", "--propagation", "private", "sh", "-c", mount, str(full.containerd))
    # its own trust was lost with the old directory, and cannot be written anew
    site.fleet.wait_for(State.FAILED, ["w1"])
    judgement = site.fleet.judgements()["w1"]
    assert "No space left on device" in judgement.reason
    assert str(full.containerd) in judgement.reason
    assert "free space" in judgement.remedy
    full.kill()
    full.start()
    site.fleet.wait_for(State.LIVE)


def test_the_loss_of_one_server_of_etcd_is_not_noticed(site: Site, etcd: EtcdCluster) -> None:
    leader = etcd.leader()
    etcd.signal(leader, signal.SIGKILL)
    try:
        site.change(list(site.fleet.workers))
    finally:
        etcd.start(leader)
        etcd.wait_ready()


def test_without_etcd_trust_is_kept_and_repaired_and_everything_settles_afterwards(
    site: Site, etcd: EtcdCluster
) -> None:
    site.fleet.wait_for(State.LIVE)
    worker = site.fleet.workers["w2"]
    before = site.trusted(worker)
    for number in range(3):
        etcd.signal(number, signal.SIGKILL)
    worker.kill()
    shutil.rmtree(worker.docker)
    worker.start()
    wait_until(lambda: site.trusted(worker) == before, what="the trust is repaired")
    for number in range(3):
        etcd.start(number)
    etcd.wait_ready()
    site.fleet.wait_for(State.LIVE, seconds=60)
    site.change(list(site.fleet.workers))


def test_a_host_may_write_nothing_but_its_own_report(site: Site, etcd: EtcdCluster) -> None:
    password = (site.fleet.workers["w1"].root / "cluster" / "password").read_text()
    store = EtcdStore(etcd.access(User("host-w1", password)))
    others = [host_key("w2", part) for part in Part]
    for key in (CERTIFICATE, EPOCH, host_key("w1", Part.SPEC), *others):
        with pytest.raises(NotAuthorized):
            store.transact([], [Put(key, b"{}")])
    for key in others:
        with pytest.raises(NotAuthorized):
            store.get(key)
    store.close()


def test_a_host_needs_little_memory(site: Site) -> None:
    site.fleet.wait_for(State.LIVE)
    for worker in site.fleet.workers.values():
        assert worker.process.memory_info().rss / 2**20 <= MAX_MEMORY


def test_a_host_with_a_wrong_password_says_so_and_goes_on(site: Site) -> None:
    worker = site.fleet.workers["w3"]
    password = worker.root / "cluster" / "password"
    right = password.read_text()
    worker.kill()
    password.write_text("wrong")
    worker.start()
    wait_until(lambda: "etcd refuses the password of user host-w3" in worker.log(), what="it says so")
    password.write_text(right)
    worker.kill()
    worker.start()
    site.fleet.wait_for(State.LIVE)


# the last one: it replaces the data of etcd
def test_hosts_refuse_to_go_back_with_a_restored_etcd_until_the_operator_decides(
    site: Site, etcd: EtcdCluster
) -> None:
    snapshot = etcd.directory / "snapshot"
    etcd.etcdctl("snapshot", "save", snapshot)
    site.change(list(site.fleet.workers))
    etcd.restore(snapshot, "second")
    site.fleet.wait_for(State.AHEAD, seconds=60)
    worker = site.fleet.workers["w1"]
    assert site.trusted(worker) == [CAS[site.number % 2].pem]
    assert "restart sysreg-agent" in site.fleet.judgements()["w1"].remedy
    site.number += 2  # the agent publishes what the registry serves as a later change
    site.settle()
    site.fleet.wait_for(State.LIVE)
