"""A worker's system trusts exactly the desired CA certificates, and what keeps it from that is named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from sysreg_cli.cluster.problems import Problem
from sysreg_cli.cluster.records import Anchor, ChangeId, DesiredAuthorities, Outcome
from sysreg_cli.host import failpoint
from sysreg_cli.host.system_bundle import SystemBundle
from sysreg_cli.settings import PathSettings, Settings
from sysreg_cli.worker.acting import fingerprint
from sysreg_cli.worker.authorities import AuthorityReconciler
from tests import certificates as make

ONE, TWO = make.authority("One"), make.authority("Two")


def desired(number: int, *authorities: make.Issued) -> DesiredAuthorities:
    anchors = tuple(Anchor(fingerprint(one.certificate), one.pem.decode()) for one in authorities)
    return DesiredAuthorities(ChangeId(number, f"id-{number}"), anchors)


class Host:
    def __init__(self, root: Path) -> None:
        self.runs = root / "runs"
        self.failing = root / "failing"
        script = root / "rebuild"
        script.write_text(
            f"#!/bin/sh\necho ran >> {self.runs}\nif [ -e {self.failing} ]; then echo no room; exit 1; fi\n"
        )
        script.chmod(0o755)
        self.settings = Settings(
            paths=PathSettings(
                state=root / "state", system_trust=root / "system", system_trust_command=str(script)
            )
        )
        self.settings.paths.state.mkdir()
        self.start()

    def start(self) -> None:
        self.reconciler = AuthorityReconciler(self.settings)

    def outcome(self, wanted: DesiredAuthorities | None) -> Outcome | None:
        report = self.reconciler.run(wanted)
        return report.outcome if report else None

    def problem(self, wanted: DesiredAuthorities) -> tuple[str, str]:
        report = self.reconciler.run(wanted)
        assert report
        assert report.failure
        return report.failure.problem, report.failure.reason

    def trusted(self) -> set[str]:
        return {one.subject.rfc4514_string() for one in SystemBundle(self.settings.paths).installed()}

    def rebuilds(self) -> int:
        return len(self.runs.read_text().splitlines()) if self.runs.exists() else 0


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_they_are_added_and_removed_and_nothing_is_done_twice(host: Host) -> None:
    assert host.outcome(None) is None
    assert host.outcome(desired(1, ONE, TWO)) is Outcome.LIVE
    assert host.trusted() == {"CN=One", "CN=Two"}
    assert host.rebuilds() == 1
    assert host.outcome(desired(1, ONE, TWO)) is Outcome.LIVE
    assert host.rebuilds() == 1
    assert host.outcome(desired(2, TWO)) is Outcome.LIVE
    assert host.trusted() == {"CN=Two"}
    assert host.outcome(desired(3)) is Outcome.LIVE
    assert host.trusted() == set()


def test_what_was_there_before_the_first_one_was_desired_is_not_touched(host: Host) -> None:
    host.settings.paths.system_trust.mkdir()
    own = host.settings.paths.system_trust / "corporate.crt"
    own.write_bytes(ONE.pem)
    assert host.outcome(None) is None
    assert host.outcome(desired(1, TWO)) is Outcome.LIVE
    assert own.exists()
    assert host.trusted() == {"CN=Two"}


def test_without_the_store_it_keeps_and_repairs_what_it_has(host: Host) -> None:
    host.outcome(desired(1, ONE))
    host.start()
    for path in host.settings.paths.system_trust.iterdir():
        path.unlink()
    report = host.reconciler.run(host.reconciler.accepted)
    assert report
    assert report.outcome is Outcome.LIVE
    assert host.trusted() == {"CN=One"}


def test_a_start_rebuilds_the_bundle_which_may_come_from_a_backup(host: Host) -> None:
    host.outcome(desired(1, ONE))
    host.start()
    assert host.outcome(desired(1, ONE)) is Outcome.LIVE
    assert host.rebuilds() == 2


def test_a_store_that_went_back_leads_no_host_back(host: Host) -> None:
    host.outcome(desired(2, TWO))
    for older in (desired(1, ONE), None):
        assert host.outcome(older) is Outcome.AHEAD
        assert host.trusted() == {"CN=Two"}


@pytest.mark.parametrize(
    ("fault", "problem"), [("ENOSPC+", Problem.DISK_FULL), ("EROFS+", Problem.READ_ONLY)]
)
def test_a_disk_that_takes_nothing_is_named_and_heals(
    host: Host, fault: str, problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.outcome(desired(1, ONE))
    monkeypatch.setenv(failpoint.VARIABLE, f"1:{fault}")
    failpoint.reset()
    assert host.problem(desired(2, TWO))[0] == problem
    monkeypatch.delenv(failpoint.VARIABLE)
    assert host.trusted() == {"CN=One"}
    assert host.outcome(desired(2, TWO)) is Outcome.LIVE
    assert host.trusted() == {"CN=Two"}


def test_a_bundle_that_cannot_be_rebuilt_is_undone_named_and_heals(host: Host) -> None:
    host.outcome(desired(1, ONE))
    host.failing.touch()
    problem, reason = host.problem(desired(2, TWO))
    assert problem == Problem.SYSTEM_TRUST
    assert reason.endswith("failed with status 1: no room")
    assert host.trusted() == {"CN=One"}
    host.failing.unlink()
    assert host.outcome(desired(2, TWO)) is Outcome.LIVE


def test_a_desired_state_that_makes_no_sense_changes_nothing(host: Host) -> None:
    host.outcome(desired(1, ONE))
    wrong = dataclasses.replace(desired(2), anchors=(Anchor("0" * 64, TWO.pem.decode()),))
    assert host.problem(wrong)[0] == Problem.DAMAGED
    assert host.trusted() == {"CN=One"}
    assert host.reconciler.accepted == desired(1, ONE)
