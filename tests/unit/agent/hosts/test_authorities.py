"""CA certificates over several hosts: with failures of hosts, of the store, and of the agent."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from devstack.waiting import wait_until
from sysreg_cli.cluster.judgement import State
from sysreg_cli.errors import SysregError
from sysreg_cli.host.locks import services_lock
from sysreg_cli.host.system_bundle import SystemBundle
from sysreg_cli.pki.check import check_authorities
from sysreg_cli.worker.acting import fingerprint
from tests import certificates as make
from tests.unit.agent.hosts.world import World

ONE, TWO = make.authority("One"), make.authority("Two")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def start(world: World) -> None:
    """Start an agent, and wait until both workers are there."""
    world.start_agent()
    wait_until(lambda: world.states() == {State.LIVE}, what="both have joined")


def bundle(world: World) -> SystemBundle:
    return SystemBundle(world.host.settings.paths)


def add(world: World, *authorities: make.Issued) -> None:
    """Install CA certificates on the controller alone, as the first step of the API's call does."""
    pem = b"".join(one.pem for one in authorities)
    bundle(world).install(check_authorities(pem, now=datetime.now(UTC)).accepted)


def is_everywhere(world: World) -> bool:
    """Whether each worker that is up trusts what the controller does."""
    wanted = {fingerprint(one) for one in bundle(world).installed()}
    return all(worker.system() == wanted for worker in world.workers.values() if worker.up)


def install(world: World, *authorities: make.Issued, require_all: bool = False) -> dict[str, State]:
    """Install them everywhere. Returns the states of the hosts; raises AssertionError for a problem."""
    there = world.authorities.begin(require_all=require_all)
    add(world, *authorities)
    outcome = world.authorities.outcome(30, there, by="admin")
    assert outcome.problem == ""
    return {one.record.name: one.state for one in outcome.judgements}


def test_they_are_on_each_host_when_the_call_is_done_and_go_when_they_are_removed(world: World) -> None:
    with world:
        start(world)
        assert install(world, ONE, TWO) == {"w1": State.LIVE, "w2": State.LIVE}
        assert is_everywhere(world)
        there = world.authorities.begin(require_all=True)
        bundle(world).remove(ONE.certificate)
        assert world.authorities.outcome(30, there, by="admin").problem == ""
        assert is_everywhere(world)
        assert world.workers["w1"].system() == {fingerprint(TWO.certificate)}


def test_without_any_nothing_is_published(world: World) -> None:
    with world:
        start(world)
        there = world.authorities.begin(require_all=True)
        assert there == {"w1", "w2"}
        assert world.authorities.outcome(5, there, by="admin").problem == ""
        assert world.published_authorities() is None


def test_a_host_that_was_down_gets_them_when_it_is_back(world: World) -> None:
    with world:
        start(world)
        world.workers["w2"].show_alive(up=False)
        with pytest.raises(SysregError, match="host w2 is down, and every host is required"):
            world.authorities.begin(require_all=True)
        assert install(world, ONE) == {"w1": State.LIVE, "w2": State.DOWN}
        world.workers["w2"].show_alive()
        wait_until(lambda: is_everywhere(world), what="w2 has it")


def test_a_host_that_fails_is_named_with_the_remedy_and_goes_on_when_it_can(world: World) -> None:
    with world:
        start(world)
        worker = world.workers["w2"]
        system = worker.settings.paths.system_trust
        system.write_text("no directory")
        there = world.authorities.begin(require_all=False)
        add(world, ONE)
        outcome = world.authorities.outcome(0.5, there, by="admin")
        assert f"host w2 is failed: {system}" in outcome.problem
        assert "host w1" not in outcome.problem
        shown = {one.record.name: one for one in world.fleet.overall_judgements()}
        assert shown["w1"].state is not State.FAILED
        assert shown["w2"].reason.startswith("CA certificates: ")
        assert "let root write there" in shown["w2"].remedy
        system.unlink()
        wait_until(lambda: is_everywhere(world), what="w2 has it")


def test_a_host_with_an_older_daemon_is_named_and_keeps_its_place(world: World) -> None:
    with world:
        start(world)
        world.workers["w2"].is_old = True
        there = world.authorities.begin(require_all=False)
        add(world, ONE)
        outcome = world.authorities.outcome(0.5, there, by="admin")
        assert "host w2 is behind: its sysreg-host" in outcome.problem
        # a change of the registry's certificate does not care
        assert [one.state for one in world.fleet.judgements()] == [State.LIVE, State.LIVE]
        world.workers["w2"].is_old = False  # it was upgraded
        wait_until(lambda: is_everywhere(world), what="w2 has it")


def test_without_the_store_nothing_is_begun(world: World) -> None:
    with world:
        start(world)
        world.cluster.down = True
        with pytest.raises(SysregError, match="no server of the store answers"):
            world.authorities.begin(require_all=False)
        world.cluster.down = False


def test_a_store_that_is_lost_after_the_begin_is_caught_up_with(world: World) -> None:
    with world:
        start(world)
        there = world.authorities.begin(require_all=False)
        add(world, ONE)
        world.cluster.down = True
        outcome = world.authorities.outcome(0.05, there, by="admin")
        assert "are not published to the hosts: no server of the store answers" in outcome.problem
        world.cluster.down = False
        wait_until(lambda: is_everywhere(world), what="every host has it")


def test_an_agent_that_was_killed_before_it_published_does_so_at_its_start(world: World) -> None:
    with world:
        start(world)
        world.stop_agent()
        add(world, ONE)
        world.start_agent()
        wait_until(lambda: world.published_authorities() and is_everywhere(world), what="every host has it")


def test_an_install_that_is_under_way_is_not_published(world: World) -> None:
    """It may yet be undone."""
    with world:
        world.start_agent(run=False)
        with services_lock(world.host.settings.paths.state, "CA install", wait=1):
            add(world, ONE)
            assert "CA install" in world.authorities.publish(decided=True)
            assert world.published_authorities() is None
        assert world.authorities.publish(decided=True) == ""
        assert world.published_authorities()


def test_a_store_that_went_back_waits_for_the_operator(world: World) -> None:
    with world:
        start(world)
        install(world, ONE)
        older = world.cluster.snapshot()
        install(world, TWO)
        world.cluster.restore(older)

        def states() -> set[State]:
            return {one.state for one in world.fleet.authority_judgements()}

        wait_until(lambda: states() == {State.AHEAD}, what="the hosts are ahead")
        assert "restored from an older state" in world.authorities.publish(decided=False)
        assert is_everywhere(world)
        world.stop_agent()
        world.start_agent()  # the operator restarts it
        wait_until(lambda: states() == {State.LIVE}, what="every host is live")
        assert is_everywhere(world)
