"""One key holds two reports of a host, from two threads: none of them loses what the other has said."""

from __future__ import annotations

import json

import pytest

from sysreg_cli.cluster.decision import Failure, Report, Sight
from sysreg_cli.cluster.keys import Part, host_key
from sysreg_cli.cluster.port import Put
from sysreg_cli.cluster.problems import Problem
from sysreg_cli.cluster.records import (
    Anchor,
    ChangeId,
    DesiredAuthorities,
    DesiredCertificate,
    HostStatus,
    Outcome,
    Phase,
    decode,
)
from sysreg_cli.worker.reporter import Reporter
from tests.memory_store import MemoryCluster

KEY = host_key("w1", Part.STATUS)
CERTIFICATE = DesiredCertificate(
    ChangeId(1, "a"), Phase.SETTLE, (Anchor("a" * 64, ""),), (), "", "1" * 64, ("registry.local",), 9001
)
CAS = DesiredAuthorities(ChangeId(7, "b"), ())
LIVE = Report(CERTIFICATE, Outcome.LIVE, sight=Sight("1" * 64, "1" * 64))
TRUSTING = Report(CAS, Outcome.LIVE)
FULL = Report(CAS, Outcome.FAILED, Failure(Problem.DISK_FULL, "no space"))


class Host:
    """A reporter with a clock that moves on with each look at it."""

    def __init__(self) -> None:
        self.cluster = MemoryCluster()
        self.store = self.cluster.administrator()
        self.now = 0.0
        self.reporter = self.started("boot")

    def started(self, boot: str) -> Reporter:
        return Reporter(self.store, "w1", boot, clock=self.clock)

    def clock(self) -> float:
        self.now += 60
        return self.now

    @property
    def status(self) -> HostStatus:
        entry = self.store.get(KEY)
        assert entry
        return decode(HostStatus, entry.value, KEY)


@pytest.fixture
def host() -> Host:
    return Host()


def test_ca_certificates_are_reported_with_the_first_report_on_the_certificate(host: Host) -> None:
    assert not host.reporter.tell_authorities(TRUSTING)
    assert host.store.get(KEY) is None
    assert host.reporter.tell(LIVE)
    assert host.status.authorities
    assert host.status.authorities.change == CAS.change


def test_each_part_keeps_its_time_while_the_other_changes(host: Host) -> None:
    host.reporter.tell(LIVE)
    since = host.status.at
    assert host.reporter.tell_authorities(TRUSTING)
    assert host.reporter.tell_authorities(FULL)
    assert host.status.at == since
    failed = host.status.authorities
    assert failed
    assert (failed.outcome, failed.problem) == (Outcome.FAILED, Problem.DISK_FULL)
    assert host.reporter.tell(Report(CERTIFICATE, Outcome.FAILED, Failure(Problem.CLOCK, "late")))
    assert host.status.authorities == failed


def test_what_is_there_already_is_not_written_again(host: Host) -> None:
    host.reporter.tell(LIVE)
    host.reporter.tell_authorities(TRUSTING)
    entry = host.store.get(KEY)
    assert not host.reporter.tell(LIVE)
    assert not host.reporter.tell_authorities(TRUSTING)
    again = host.started("boot")  # the daemon was restarted
    assert not again.tell(LIVE)
    assert not again.tell_authorities(TRUSTING)
    assert host.store.get(KEY) == entry


def test_after_a_boot_the_last_boot_does_not_count(host: Host) -> None:
    host.reporter.tell(LIVE)
    host.reporter.tell_authorities(TRUSTING)
    host.started("the next boot").tell(LIVE)
    assert host.status.authorities is None


def test_fields_of_a_newer_version_stay(host: Host) -> None:
    host.reporter.tell(LIVE)
    entry = host.store.get(KEY)
    assert entry
    host.store.transact([], [Put(KEY, json.dumps({**json.loads(entry.value), "newer": 1}).encode())])
    host.reporter.tell_authorities(TRUSTING)
    written = host.store.get(KEY)
    assert written
    assert json.loads(written.value)["newer"] == 1
