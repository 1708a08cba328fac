"""Whatever breaks during an install, the agent's next start leaves exactly the old or the new certificate.

A first install is traced. Then each failpoint that it reached fails in turn.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from devstack.programs import REGISTRY, TOKEN_SERVER
from tests.functional.certificate.breakable import HOST, BreakableController, Bundle
from tests.tls_clients import presented_chain


@dataclass(frozen=True)
class Row:
    """A fault, the outcome for the operator, and what was true after the next start of the agent."""

    fault: str
    outcome: str
    live: str
    violations: tuple[str, ...]


class Sweep:
    """Breaks one install after another. Each begins and ends with a working agent and certificate."""

    def __init__(self, breakable: BreakableController) -> None:
        self.breakable = breakable
        self.rows: list[Row] = []
        self.before = self.live = breakable.certificates.new()
        breakable.start_agent()
        self._install_next()
        assert breakable.violations(self.live) == []

    def _install_next(self) -> None:
        self.before, self.live = self.live, self.breakable.certificates.new()
        assert self.breakable.install(self.live) == ""

    def trace(self, directory: Path, change: str = "install") -> list[str]:
        """The failpoints of an undisturbed change, in order. Change is install or rollback."""
        file = directory / "trace"
        if change == "rollback":
            self._install_next()
        self.breakable.set_agent_fault(f"trace:{file}")
        if change == "rollback":
            assert self.breakable.roll_back() == ""
            self.before, self.live = self.live, self.before
        else:
            self._install_next()
        return file.read_text().splitlines()

    def change_with(
        self,
        name: str,
        failpoint: str = "",
        service: str = "none",
        meanwhile: threading.Timer | None = None,
        before_start: Callable[[], object] = lambda: None,
        after_start: Callable[[], object] = lambda: None,
        change: str = "install",
    ) -> None:
        """Install or roll back with a fault, start the agent again, and add a row with what is true then.

        ``failpoint`` is a fault of the agent, ``service`` one of the service commands. ``meanwhile`` runs
        beside the install. The two callables run before and after the next start of the agent.
        """
        breakable, old = self.breakable, self.live
        new = self.before if change == "rollback" else breakable.certificates.new()
        breakable.set_service_fault(service)
        breakable.set_agent_fault(failpoint)
        if meanwhile is not None:
            meanwhile.start()
        error = breakable.roll_back() if change == "rollback" else breakable.install(new)
        if meanwhile is not None:
            meanwhile.join()
        outcome = "refused" if error else "installed"
        if error == "no answer":
            breakable.wait_for_agents_end()
            outcome = "killed"
        breakable.stop_agent()
        breakable.set_service_fault("none")
        before_start()
        breakable.start_agent()
        after_start()
        violations = breakable.violations(old, new)
        live = self._live(old, new)
        if outcome == "installed" and live != "new":
            violations.append("was reported as installed, but is not")
        self.before, self.live = new if live == "new" else old, breakable.certificates.new()
        if error := breakable.install(self.live):
            violations.append(f"a second install fails: {error}")
        else:
            violations += [f"after a second install: {text}" for text in breakable.violations(self.live)]
        self.rows.append(Row(name, outcome, live, tuple(violations)))

    def _live(self, old: Bundle, new: Bundle) -> str:
        chain = presented_chain(self.breakable.ports[0], HOST)
        return "old" if chain == old.der else "new" if chain == new.der else "neither"

    def assert_no_violations(self) -> None:
        """Fail with the rows that have a violation."""
        assert self.rows
        assert [row for row in self.rows if row.violations] == []


@pytest.fixture
def sweep(breakable: BreakableController) -> Sweep:
    return Sweep(breakable)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("change", ["install", "rollback"])
def test_killed_after_every_step_the_next_start_settles_it(sweep: Sweep, tmp_path: Path, change: str) -> None:
    failpoints = sweep.trace(tmp_path, change)
    assert len(failpoints) > 15
    for number, name in enumerate(failpoints, 1):
        sweep.change_with(f"killed before {number}: {name}", f"{number}:kill", change=change)
    sweep.assert_no_violations()
    assert {row.outcome for row in sweep.rows} == {"killed"}
    assert {row.live for row in sweep.rows} == {"old", "new"}


@pytest.mark.timeout(600)
def test_killed_at_any_moment_the_next_start_settles_it(sweep: Sweep) -> None:
    """Also between the failpoints, and during a command that outlives the agent."""
    for milliseconds in range(0, 480, 60):
        killer = threading.Timer(milliseconds / 1000, sweep.breakable.kill_agent)
        sweep.change_with(f"killed after {milliseconds} ms", meanwhile=killer)
    sweep.assert_no_violations()


@pytest.mark.timeout(600)
def test_after_a_crash_of_the_whole_machine_the_start_settles_it(sweep: Sweep, tmp_path: Path) -> None:
    """Registry and token server start with the certificate that is current, one of them after the agent."""
    controller = sweep.breakable.controller
    failpoints = sweep.trace(tmp_path)
    for number in _turning_points(failpoints)[1:]:
        for program in (REGISTRY, TOKEN_SERVER):
            late = threading.Timer(1.0, controller.start_program, [program])

            def crash(late: threading.Timer = late, program: str = program) -> None:
                sweep.breakable.restart_services(but=program)
                late.start()

            sweep.change_with(
                f"crash before {number}: {failpoints[number - 1]}, late {program}",
                f"{number}:kill",
                before_start=crash,
                after_start=late.join,
            )
    sweep.assert_no_violations()


@pytest.mark.timeout(1200)
def test_no_failing_write_rename_or_command_leaves_anything_half_done(sweep: Sweep, tmp_path: Path) -> None:
    for number, name in enumerate(sweep.trace(tmp_path), 1):
        kind = name.split()[0]
        errors = {"write": ["ENOSPC", "ENOSPC+"], "rename": ["EIO", "EROFS+"]}.get(kind, ["EIO"])
        for error in errors:
            sweep.change_with(f"{error} at {number}: {name}", f"{number}:{error}")
    sweep.assert_no_violations()


@pytest.mark.timeout(600)
def test_a_full_disk_leaves_nothing_of_a_rollback_half_done(sweep: Sweep, tmp_path: Path) -> None:
    # the other writes are those of an install, which fail above
    writes = ("write certificate-journal", "write server.key", "write current")
    for number, name in enumerate(sweep.trace(tmp_path, "rollback"), 1):
        if name in writes:
            sweep.change_with(f"ENOSPC+ at {number}: {name}", f"{number}:ENOSPC+", change="rollback")
    sweep.assert_no_violations()


@pytest.mark.timeout(600)
def test_services_that_fail_to_follow_are_brought_back(sweep: Sweep) -> None:
    controller = sweep.breakable.controller
    for fault in ("restart-fails-once", "restart-fails", "down-once", "down", "deaf-once", "deaf"):
        sweep.change_with(fault, service=fault)
    sweep.change_with("frozen-once (probe times out)", service="frozen-once")
    sweep.change_with(
        "frozen (probe times out)",
        service="frozen",
        before_start=lambda: controller.signal(TOKEN_SERVER, signal.SIGCONT),
    )
    sweep.assert_no_violations()
    assert {row.live for row in sweep.rows} == {"old"}


@pytest.mark.timeout(900)
def test_a_damaged_journal_does_not_keep_the_agent_from_settling(sweep: Sweep, tmp_path: Path) -> None:
    failpoints = sweep.trace(tmp_path)
    journal = sweep.breakable.controller.paths.state / "certificate-journal"
    damages: dict[str, Callable[[bytes], bytes]] = {
        "empty": lambda _data: b"",
        "cut in half": lambda data: data[: len(data) // 2],
        "garbage": lambda data: os.urandom(len(data)),
        "altered": lambda data: data.replace(b"prepared", b"committd"),
    }
    for number in _turning_points(failpoints):
        for kind, damage in damages.items():

            def damage_journal(damage: Callable[[bytes], bytes] = damage) -> None:
                journal.write_bytes(damage(journal.read_bytes()))

            sweep.change_with(
                f"journal {kind}, killed before {failpoints[number - 1]}",
                f"{number}:kill",
                before_start=damage_journal,
            )
    sweep.assert_no_violations()


def _turning_points(failpoints: list[str]) -> list[int]:
    """The failpoints after the journal, and before the switch, the reload, the restart and the commit."""
    return [
        failpoints.index("write generation") + 1,
        failpoints.index("rename current") + 1,
        next(number for number, name in enumerate(failpoints, 1) if name.startswith("reload")),
        next(number for number, name in enumerate(failpoints, 1) if name.startswith("restart")),
        [number for number, name in enumerate(failpoints, 1) if name == "write certificate-journal"][1],
    ]
