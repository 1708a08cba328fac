"""A change of the certificate over several hosts: with failures of hosts, of the store, and of the agent."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from devstack.waiting import wait_until
from sysreg_cli.addresses import HostPort
from sysreg_cli.agent.certificate.transaction import CertificateChange
from sysreg_cli.agent.hosts.cluster import HostCluster
from sysreg_cli.cluster.judgement import State
from sysreg_cli.cluster.keys import CERTIFICATE
from sysreg_cli.cluster.port import Delete, Expected, Put
from sysreg_cli.cluster.records import Phase
from sysreg_cli.errors import SysregError, Unavailable
from sysreg_cli.host import failpoint
from sysreg_cli.settings import ClusterSettings
from tests.memory_store import MemoryStore
from tests.unit.agent.certificate.host import NEW, OLD, Host
from tests.unit.agent.hosts.world import PACE, DyingStore, Killed, World, chain


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def wait_settled(world: World) -> None:
    wait_until(world.is_settled, what="each host trusts exactly what the registry presents")
    assert world.lost == []


def install(world: World, name: str = "another CA", *, require_all: bool = False) -> None:
    change = world.start_agent()
    wait_settled(world)
    change.install(chain(name), by="admin", wait=1, require_all_hosts=require_all)


def test_each_host_has_the_certificate_when_the_change_is_done(world: World) -> None:
    with world:
        install(world)
        outcome = world.rollout.outcome(10)
        assert outcome.problem == ""
        assert [one.state for one in outcome.judgements] == [State.LIVE, State.LIVE]
        wait_settled(world)
        assert (published := world.published())
        assert (published.phase, published.who) == (Phase.SETTLE, "admin")


def test_the_registry_changes_over_a_while_after_the_last_host_trusts(tmp_path: Path) -> None:
    """A client that read what it trusts just before connects just after."""
    with World(tmp_path, pace=replace(PACE, overlap=0.5)) as world:
        install(world)
        wait_settled(world)
        new = world.anchor()
        trusted = max(world.seen[name, new] for name in world.workers)
        assert world.seen["", new] >= trusted + 0.4


def test_a_host_that_was_down_is_named_and_gets_it_when_it_is_back(world: World) -> None:
    with world:
        world.workers["w2"].show_alive(up=False)
        install(world)
        outcome = world.rollout.outcome(10)
        assert outcome.problem == ""
        assert [one.record.name for one in outcome.behind] == ["w2"]
        world.workers["w2"].show_alive()
        wait_settled(world)


def test_with_every_host_required_one_that_is_down_stops_the_change(world: World) -> None:
    with world:
        world.workers["w2"].show_alive(up=False)
        with pytest.raises(SysregError, match="host w2 is down, and every host is required"):
            install(world, require_all=True)
        assert world.host.in_use() == OLD
        wait_settled(world)


def test_a_host_that_fails_stops_the_change_before_anything_is_switched(world: World) -> None:
    with world:
        change = world.start_agent()
        wait_settled(world)
        world.workers["w2"].disk_full = True
        restarts = world.host.services.live
        with pytest.raises(SysregError, match="host w2 is failed: /etc/docker: No space left on device"):
            change.install(chain("another CA"), by="admin", wait=1)
        assert world.host.services.live == restarts
        world.workers["w2"].disk_full = False
        wait_settled(world)
        assert not world.workers["w1"].trusted() - {world.anchor()}


def test_a_host_that_says_nothing_stops_the_change(world: World) -> None:
    with world:
        change = world.start_agent()
        wait_settled(world)
        world.workers["w1"].up = False  # its lease has not ended yet
        with pytest.raises(SysregError, match="host w1 is behind"):
            change.install(chain("another CA"), by="admin", wait=1)
        world.workers["w1"].up = True
        wait_settled(world)


def test_without_the_store_nothing_is_installed_and_nothing_is_lost(world: World) -> None:
    with world:
        change = world.start_agent()
        wait_settled(world)
        world.cluster.down = True
        with pytest.raises(SysregError, match="no server of the store answers"):
            change.install(chain("another CA"), by="admin", wait=1)
        assert world.host.in_use() == OLD
        world.cluster.down = False
        wait_settled(world)


def test_a_store_that_is_lost_after_the_switch_is_caught_up_with(world: World) -> None:
    with world:
        change = world.start_agent()
        wait_settled(world)
        live = world.host.services.wait

        def lose(*arguments: object, **options: object) -> None:
            live(*arguments, **options)  # type: ignore[arg-type]
            world.cluster.down = True

        world.host.services.wait = lose  # type: ignore[method-assign]
        change.install(chain("another CA"), by="admin", wait=1)
        assert world.rollout.outcome(0.05).problem
        world.cluster.down = False
        wait_settled(world)
        assert world.rollout.outcome(10).problem == ""


def test_a_certificate_that_sysreg_deploy_replaced_reaches_the_hosts(world: World) -> None:
    with world:
        world.start_agent()
        wait_settled(world)
        world.host.switch()
        world.host.services.live = NEW
        world.lost.clear()  # nobody asked the hosts before
        wait_until(world.is_settled, what="each host follows")


def test_a_store_that_went_back_waits_for_the_operator(world: World) -> None:
    with world:
        change = world.start_agent()
        wait_settled(world)
        older = world.cluster.snapshot()
        change.install(chain("another CA"), by="admin", wait=1)
        wait_settled(world)
        world.cluster.restore(older)
        wait_until(lambda: world.states() == {State.AHEAD}, what="the hosts are ahead")
        before = world.published()
        world.rollout.publish()
        assert world.published() == before
        world.stop_agent()
        world.start_agent()  # the operator restarts it
        wait_until(lambda: world.rollout.outcome(0).problem == "" and world.published() != before)
        wait_settled(world)


def test_an_empty_store_is_filled_at_the_start_of_the_agent(world: World) -> None:
    with world:
        world.start_agent()
        wait_settled(world)
        world.stop_agent()
        world.cluster.administrator().transact([], [Delete(CERTIFICATE)])
        world.start_agent()
        wait_until(lambda: world.published() and world.rollout.outcome(0).problem == "")


def test_of_two_changes_at_once_one_is_told(world: World) -> None:
    """The lock of the controller sees to it; here the store does, as for a second agent."""
    with world:
        change = world.start_agent()
        wait_settled(world)
        for worker in world.workers.values():
            worker.up = False
        wait = world.rollout._wait_for_trust

        def intrude(*arguments: object, **options: object) -> None:
            entry = world.store.get(CERTIFICATE)
            assert entry
            world.store.transact([], [Put(CERTIFICATE, entry.value.replace(b"admin", b"other"))])
            wait(*arguments, **options)  # type: ignore[arg-type]

        world.rollout._wait_for_trust = intrude  # type: ignore[method-assign]
        with pytest.raises(SysregError, match="another certificate was published"):
            change.install(chain("another CA"), by="admin", wait=1)


class FullStore(MemoryStore):
    """A store that refuses to write: its quota is full."""

    is_full = True

    def transact(self, expected: Sequence[Expected], writes: Sequence[Put | Delete]) -> int:
        if self.is_full:
            raise Unavailable("etcd takes no values, because its quota is full")
        return super().transact(expected, writes)


@pytest.mark.parametrize("is_first", [True, False])
def test_a_store_that_did_not_take_a_change_was_not_restored_from_an_older_state(
    world: World, is_first: bool
) -> None:
    """The number of the change was given, but the store never had it. So nobody has to decide anything."""
    with world:
        if not is_first:
            world.start_agent()
            wait_settled(world)
            world.stop_agent()
        store = FullStore(world.cluster, None)
        change = world.start_agent(store)
        with pytest.raises(SysregError, match="its quota is full"):
            change.install(chain("another CA"), by="admin", wait=1)
        world.rollout.publish()
        store.is_full = False
        wait_until(lambda: world.rollout.outcome(0).problem == "" and world.published(), what="it goes on")
        wait_settled(world)
        world.rollout.trust(chain("another CA").certificates, by="admin")
        world.rollout.settle()
        wait_settled(world)


class Death:
    """Counts the places at which the agent may die, and says when it does."""

    def __init__(self, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = place
        self.armed = False
        monkeypatch.setattr(failpoint, "reach", self._reach)

    def here(self) -> bool:
        if not self.armed:
            return False
        self.left -= 1
        return self.left == 0

    def _reach(self, _name: str) -> None:
        if threading.current_thread() is threading.main_thread() and self.here():
            raise Killed


def test_an_agent_that_is_killed_anywhere_leaves_hosts_that_trust_what_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kill sweep: at each failpoint, and before and after each transaction of the store."""
    with World(tmp_path) as world:
        world.start_agent()
        for place in range(1, 200):
            wait_until(lambda: world.states() == {State.LIVE}, what="every host is live")
            world.stop_agent()
            death = Death(place, monkeypatch)
            change = world.start_agent(DyingStore(world.cluster, death.here), run=False)
            death.armed = True
            try:
                change.install(chain(f"CA {place}"), by="admin", wait=1)
                ended = death.left > 0
            except Killed:
                ended = False
            death.armed = False
            world.stop_agent()
            world.start_agent()
            wait_settled(world)
            if ended:
                assert place > 20
                return
    pytest.fail("the change has no end")


def test_a_credential_that_is_missing_stops_no_agent_and_is_named(tmp_path: Path) -> None:
    host = Host(tmp_path / "controller")
    section = ClusterSettings(endpoints=(HostPort("127.0.0.1", 1),), directory=tmp_path / "none")
    cluster = HostCluster.of(dataclasses.replace(host.settings, cluster=section))
    cluster.start()
    change = CertificateChange(host.settings, probe=host.services, hosts=cluster.rollout)
    missing = str(tmp_path / "none" / "ca.crt")
    with pytest.raises(SysregError, match=missing):
        cluster.hosts()
    with pytest.raises(SysregError, match=missing):
        change.install(chain("another CA"), by="admin", wait=1)
    assert host.in_use() == OLD
    cluster.stop()
