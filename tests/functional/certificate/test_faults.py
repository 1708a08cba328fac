"""Whatever breaks during an install, the next start of the agent leaves exactly the old or the new set.

The places where the agent is broken are not listed here: a first install is traced, and every place it passed
where something changes is then hit in turn.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import pytest

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
        self, name: str, failpoint: str = "", fault: str = "none", then: Callable[[], None] | None = None
    ) -> None:
        """One install with a fault; ``then`` runs between the old agent's end and the next one's start."""
        site, old, new = self.site, self.live, self.site.certificates.new()
        site.set_fault(fault)
        site.start_agent(failpoint)
        told = site.install(new)
        killed = told == "no answer" and site.wait_for_the_agents_end()
        site.stop_agent()
        site.set_fault("none")
        if then is not None:
            then()
        site.start_agent()
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
        return lambda: journal.write_bytes(how(journal.read_bytes())) and None if journal.exists() else None

    kinds: dict[str, Callable[[bytes], bytes]] = {
        "empty": lambda _data: b"",
        "cut in half": lambda data: data[: len(data) // 2],
        "garbage": lambda data: os.urandom(len(data)),
        "altered": lambda data: data.replace(b"prepared", b"committd"),
    }
    # after the journal, before the switch, before the restart, before the commit
    before = [
        places.index("write generation") + 1,
        places.index("rename current") + 1,
        next(n for n, place in enumerate(places, 1) if place.startswith("reload")),
        next(n for n, place in enumerate(places, 1) if place.startswith("restart")),
        [n for n, place in enumerate(places, 1) if place == "write certificate-journal"][1],
    ]
    for number in before:
        for kind, how in kinds.items():
            sweep.hit(
                f"journal {kind}, killed before {places[number - 1]}", f"{number}:kill", then=damage(how)
            )
    sweep.report("damaged journals", capsys)
