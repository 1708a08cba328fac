"""The hosts as the agent's calls show them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from devstack.waiting import wait_until
from sysreg_cli.agent.hosts.cluster import HostCluster
from sysreg_cli.cluster.judgement import State
from sysreg_cli.cluster.problems import Problem, remedy
from tests.memory_store import MemoryStore
from tests.unit.agent.hosts.world import World, chain

REVISIONS = {"192.0.2.1:2479": 125, "192.0.2.2:2479": 125, "192.0.2.3:2479": 15}


class Administration(MemoryStore):
    """An etcd whose servers have these revisions of the users."""

    revisions: Mapping[str, int]

    def user_revisions(self) -> Mapping[str, int]:
        return self.revisions


def test_the_remedy_for_a_host_that_is_ahead_depends_on_what_etcds_servers_hold(tmp_path: Path) -> None:
    with World(tmp_path / "world", ["w1"]) as world:
        change = world.start_agent()
        wait_until(lambda: world.states() == {State.LIVE})
        older = world.cluster.snapshot()
        change.install(chain("another CA"), by="admin", wait=1)
        wait_until(lambda: world.states() == {State.LIVE})
        world.cluster.restore(older)
        wait_until(lambda: world.states() == {State.AHEAD}, what="the host is ahead")
        administration = Administration(world.cluster, None)
        cluster = HostCluster(world.host.settings, world.store, administration)
        for revisions in ({}, dict.fromkeys(REVISIONS, 125)):
            administration.revisions = revisions
            assert [host.remedy for host in cluster.hosts()] == [remedy(Problem.AHEAD)]
        administration.revisions = REVISIONS
        (host,) = cluster.hosts()
        assert "125 at 192.0.2.2:2479, 15 at 192.0.2.3:2479" in host.remedy
