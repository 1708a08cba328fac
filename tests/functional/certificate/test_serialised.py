"""Changes of the certificate happen one after another, across processes, and never beside a collection."""

from __future__ import annotations

import fcntl
from concurrent.futures import ThreadPoolExecutor

from devstack.waiting import wait_until
from sysreg_cli.host.locks import services_lock
from tests.functional.certificate.site import Site


def test_installs_at_the_same_time_each_happen_and_the_last_one_stays(site: Site) -> None:
    site.start_agent()
    wanted = [site.certificates.new() for _ in range(4)]
    with ThreadPoolExecutor(len(wanted)) as pool:
        told = list(pool.map(site.install, wanted))
    assert told == [""] * len(wanted)
    assert site.violations(*wanted) == []
    site.stop_agent()


def test_an_install_waits_for_a_collection_as_long_as_its_client_waits(site: Site) -> None:
    site.start_agent()
    old, new = site.certificates.new(), site.certificates.new()
    assert site.install(old) == ""
    # what a collector that outlived its agent still holds
    with (site.controller.state / "write-fence").open("r+") as write_lock, ThreadPoolExecutor(1) as pool:
        fcntl.flock(write_lock, fcntl.LOCK_EX)
        assert "a collection was still under way after 2 s" in site.install(new, "wait=2.5")
        assert site.violations(old) == []
        waiting = pool.submit(site.install, new)
        wait_until(lambda: site.agent_waits_for(write_lock.name), 20, what="the install waits")
        # a collection may have to restart the registry: nothing keeps it from that
        with services_lock(site.controller.state, "a garbage collection", wait=5):
            assert not waiting.done()
        fcntl.flock(write_lock, fcntl.LOCK_UN)
        assert waiting.result(60) == ""
    assert site.violations(new) == []
    site.stop_agent()


def test_an_agent_that_stops_ends_the_waiting_of_installs(site: Site) -> None:
    site.start_agent()
    old = site.certificates.new()
    assert site.install(old) == ""
    with (site.controller.state / "write-fence").open("r+") as write_lock, ThreadPoolExecutor(1) as pool:
        fcntl.flock(write_lock, fcntl.LOCK_EX)
        waiting = pool.submit(site.install, site.certificates.new())
        wait_until(lambda: site.agent_waits_for(write_lock.name), 20, what="the install waits")
        site.stop_agent()
        assert "sysreg-agent is stopping" in waiting.result(60)
    site.start_agent()
    assert site.violations(old) == []
    site.stop_agent()


def test_a_second_agent_does_not_touch_the_change_of_a_live_one(site: Site) -> None:
    """Two agents at a time are an accident; the journal of a change under way is not that of a dead agent."""
    site.start_agent()
    old, new = site.certificates.new(), site.certificates.new()
    assert site.install(old) == ""
    with (site.controller.state / "services.lock").open("r+") as lock, ThreadPoolExecutor(1) as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)
        journal = site.controller.state / "certificate-journal"
        journal.write_text("a change of a live agent")
        site.stop_agent()
        starting = pool.submit(site.start_agent)
        wait_until(lambda: site.agent_waits_for(lock.name), 20, what="the new agent waits for the lock")
        assert journal.read_text() == "a change of a live agent"
        assert not starting.done()
        journal.unlink()
        fcntl.flock(lock, fcntl.LOCK_UN)
        starting.result(30)
    assert site.install(new) == ""
    assert site.violations(new) == []
    site.stop_agent()
