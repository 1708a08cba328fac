"""Whatever breaks during an install, the next start of the agent leaves exactly the old or the new set.

The places where the agent is broken are not listed here: a first install is traced, and every place it passed
where something changes is then hit in turn.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from devstack.programs import REGISTRY, TOKEN_SERVER
from tests.functional.certificate.site import Bundle, Site


@dataclasses.dataclass(frozen=True)
class Row:
    """What was broken, what the operator was told, and what was true after the next start of the agent."""

    fault: str
    told: str
    live: str
    violations: tuple[str, ...]


class Sweep:
    """Breaks one install after another; each begins and ends with a working site."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.rows: list[Row] = []
        site.start_agent()
        self.live = site.certificates.new()
        assert site.install(self.live) == ""
        assert site.violations(self.live) == []
        site.stop_agent()

    def trace(self, directory: Path) -> list[str]:
        """The places of one undisturbed install, in order."""
        file = directory / "trace"
        new = self.site.certificates.new()
        self.site.start_agent(f"trace:{file}")
        assert self.site.install(new) == ""
        self.site.stop_agent()
        self.live = new
        return file.read_text().splitlines()

    def hit(
        self,
        name: str,
        failpoint: str = "",
        fault: str = "none",
        then: Callable[[], object] | None = None,
        meanwhile: threading.Timer | None = None,
        settled: Callable[[], object] | None = None,
    ) -> None:
        """One install with a fault, and what has to be true after the next start of the agent.

        ``meanwhile`` runs beside the install, ``then`` between the old agent's end and the next one's start,
        ``settled`` after that.
        """
        site, old, new = self.site, self.live, self.site.certificates.new()
        site.set_fault(fault)
        site.start_agent(failpoint)
        if meanwhile is not None:
            meanwhile.start()
        told = site.install(new)
        if meanwhile is not None:
            meanwhile.join()
        killed = told == "no answer" and site.wait_for_the_agents_end()
        site.stop_agent()
        site.set_fault("none")
        if then is not None:
            then()
        site.start_agent()
        if settled is not None:
            settled()
        violations = site.violations(old, new)
        live = self._which(old, new)
        if told == "" and live != "new":
            violations.append("was reported as installed, but is not")
        again = site.certificates.new()
        if error := site.install(again):
            violations.append(f"a second install fails: {error}")
        else:
            violations += [f"after a second install: {one}" for one in site.violations(again)]
        site.stop_agent()
        self.live = again
        outcome = "killed" if killed else "refused" if told else "installed"
        self.rows.append(Row(name, outcome, live, tuple(violations)))

    def _which(self, old: Bundle, new: Bundle) -> str:
        presented = self.site.presented(self.site.ports[0])
        return {str(old.der): "old", str(new.der): "new"}.get(str(presented), "neither")

    def report(self, title: str, capsys: pytest.CaptureFixture[str]) -> None:
        with capsys.disabled():
            print(f"\n{title}: {len(self.rows)} faults injected")
            for row in self.rows:
                wrong = "; ".join(row.violations)[:200] or "ok"
                print(f"  {row.fault:<58} {row.told:<10} {row.live:<8} {wrong}")
        assert [row for row in self.rows if row.violations] == []


@pytest.mark.timeout(1200)
def test_killed_after_every_step_the_next_start_settles_it(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = Sweep(site)
    places = sweep.trace(tmp_path)
    assert len(places) > 15
    for number, place in enumerate(places, 1):
        sweep.hit(f"killed before {number}: {place}", f"{number}:kill")
    sweep.report("SIGKILL", capsys)
    assert {row.told for row in sweep.rows} == {"killed"}
    assert {row.live for row in sweep.rows} == {"old", "new"}


@pytest.mark.timeout(600)
def test_killed_at_any_moment_the_next_start_settles_it(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also between the places, and while a command runs that outlives the agent."""
    sweep = Sweep(site)
    for milliseconds in range(0, 480, 60):
        killer = threading.Timer(milliseconds / 1000, lambda: site.kill_agent())
        sweep.hit(f"killed after {milliseconds} ms", meanwhile=killer)
    sweep.report("SIGKILL at any moment", capsys)


@pytest.mark.timeout(600)
def test_after_a_crash_of_the_whole_machine_the_start_settles_it(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Registry and token server start with whatever the link names, and later than the agent."""
    sweep = Sweep(site)
    places = sweep.trace(tmp_path)
    for number in _turning_points(places)[1:]:
        for program in (REGISTRY, TOKEN_SERVER):
            late = threading.Timer(1.0, site.controller.start_program, [program])

            def restart(late: threading.Timer = late, program: str = program) -> None:
                site.restart_all(but=program)
                late.start()

            sweep.hit(
                f"crash before {number}: {places[number - 1]}, late {program}",
                f"{number}:kill",
                then=restart,
                settled=late.join,
            )
    sweep.report("crash of the machine", capsys)


@pytest.mark.timeout(1200)
def test_no_failing_write_rename_or_command_leaves_anything_half_done(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = Sweep(site)
    for number, place in enumerate(sweep.trace(tmp_path), 1):
        kind = place.split()[0]
        errors = {"write": ["ENOSPC", "ENOSPC+"], "rename": ["EIO", "EROFS+"]}.get(kind, ["EIO"])
        for error in errors:
            sweep.hit(f"{error} at {number}: {place}", f"{number}:{error}")
    sweep.report("failing system calls", capsys)


@pytest.mark.timeout(600)
def test_services_that_fail_to_follow_are_brought_back(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = Sweep(site)
    for fault in ("restart-fails-once", "restart-fails", "down-once", "down", "deaf-once", "deaf"):
        sweep.hit(fault, fault=fault)
    sweep.hit("frozen-once (probe times out)", fault="frozen-once")
    thaw = site.controller
    sweep.hit(
        "frozen (probe times out)",
        fault="frozen",
        then=lambda: thaw.signal("sysreg-token-server.service", 18),
    )
    sweep.report("services", capsys)
    assert {row.live for row in sweep.rows} == {"old"}


@pytest.mark.timeout(900)
def test_a_damaged_journal_does_not_keep_the_agent_from_settling(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = Sweep(site)
    places = sweep.trace(tmp_path)
    journal = site.controller.state / "certificate-journal"

    def damage(how: Callable[[bytes], bytes]) -> Callable[[], None]:
        def done() -> None:
            if journal.exists():
                journal.write_bytes(how(journal.read_bytes()))

        return done

    kinds: dict[str, Callable[[bytes], bytes]] = {
        "empty": lambda _data: b"",
        "cut in half": lambda data: data[: len(data) // 2],
        "garbage": lambda data: os.urandom(len(data)),
        "altered": lambda data: data.replace(b"prepared", b"committd"),
    }
    for number in _turning_points(places):
        for kind, how in kinds.items():
            sweep.hit(
                f"journal {kind}, killed before {places[number - 1]}", f"{number}:kill", then=damage(how)
            )
    sweep.report("damaged journals", capsys)


def _turning_points(places: list[str]) -> list[int]:
    """The places after the journal, and before the switch, the reload, the restart and the commit."""
    return [
        places.index("write generation") + 1,
        places.index("rename current") + 1,
        next(number for number, place in enumerate(places, 1) if place.startswith("reload")),
        next(number for number, place in enumerate(places, 1) if place.startswith("restart")),
        [number for number, place in enumerate(places, 1) if place == "write certificate-journal"][1],
    ]
