"""One change of the certificate runs at a time, and none runs while a collection holds writes."""

from __future__ import annotations

import fcntl
from concurrent.futures import ThreadPoolExecutor

from devstack.waiting import wait_until
from sysreg_cli.host.locks import services_lock
from tests.functional.certificate.breakable import BreakableController


def test_installs_at_the_same_time_each_happen_and_the_last_one_stays(breakable: BreakableController) -> None:
    breakable.start_agent()
    wanted = [breakable.certificates.new() for _ in range(4)]
    with ThreadPoolExecutor(len(wanted)) as pool:
        errors = list(pool.map(breakable.install, wanted))
    assert errors == [""] * len(wanted)
    assert breakable.violations(*wanted) == []
    breakable.stop_agent()


def test_an_install_waits_for_a_collection_as_long_as_its_client_waits(
    breakable: BreakableController,
) -> None:
    breakable.start_agent()
    old, new = breakable.certificates.new(), breakable.certificates.new()
    assert breakable.install(old) == ""
    # as the collector of a killed agent holds it
    with (
        (breakable.controller.paths.state / "write-fence").open("r+") as write_lock,
        ThreadPoolExecutor(1) as pool,
    ):
        fcntl.flock(write_lock, fcntl.LOCK_EX)
        assert "a collection was still under way after 2 s" in breakable.install(new, "wait=2.5")
        assert breakable.violations(old) == []
        waiting = pool.submit(breakable.install, new)
        wait_until(lambda: breakable.agent_has_open(write_lock.name), 20, what="the install waits")
        # the collection can restart the registry meanwhile
        with services_lock(breakable.controller.paths.state, "a garbage collection", wait=5):
            assert not waiting.done()
        fcntl.flock(write_lock, fcntl.LOCK_UN)
        assert waiting.result(60) == ""
    assert breakable.violations(new) == []
    breakable.stop_agent()


def test_an_agent_that_stops_ends_the_waiting_of_installs(breakable: BreakableController) -> None:
    breakable.start_agent()
    old = breakable.certificates.new()
    assert breakable.install(old) == ""
    with (
        (breakable.controller.paths.state / "write-fence").open("r+") as write_lock,
        ThreadPoolExecutor(1) as pool,
    ):
        fcntl.flock(write_lock, fcntl.LOCK_EX)
        waiting = pool.submit(breakable.install, breakable.certificates.new())
        wait_until(lambda: breakable.agent_has_open(write_lock.name), 20, what="the install waits")
        breakable.stop_agent()
        assert "sysreg-agent is stopping" in waiting.result(60)
    breakable.start_agent()
    assert breakable.violations(old) == []
    breakable.stop_agent()


def test_a_second_agent_does_not_touch_the_change_of_a_live_one(breakable: BreakableController) -> None:
    """Two agents run by accident. The second one does not recover what the first one still does."""
    breakable.start_agent()
    old, new = breakable.certificates.new(), breakable.certificates.new()
    assert breakable.install(old) == ""
    with (
        (breakable.controller.paths.state / "services.lock").open("r+") as lock,
        ThreadPoolExecutor(1) as pool,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        journal = breakable.controller.paths.state / "certificate-journal"
        journal.write_text("a change of a live agent")
        breakable.stop_agent()
        starting = pool.submit(breakable.start_agent)
        wait_until(lambda: breakable.agent_has_open(lock.name), 20, what="the new agent waits for the lock")
        assert journal.read_text() == "a change of a live agent"
        assert not starting.done()
        journal.unlink()
        fcntl.flock(lock, fcntl.LOCK_UN)
        starting.result(30)
    assert breakable.install(new) == ""
    assert breakable.violations(new) == []
    breakable.stop_agent()
