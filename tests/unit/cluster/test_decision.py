"""What a host does: it ends where it should, and at no moment distrusts what the registry presents."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from sysreg_cli.cluster.decision import (
    Decision,
    Disk,
    Failure,
    Report,
    Sight,
    Step,
    decide,
    report_authorities,
    target,
)
from sysreg_cli.cluster.problems import Problem
from sysreg_cli.cluster.records import (
    Anchor,
    ChangeId,
    DesiredAuthorities,
    DesiredCertificate,
    Outcome,
    Phase,
)
from tests.unit.cluster.strategies import DESIRED

FULL = Failure(Problem.DISK_FULL, "/etc/docker/certs.d: No space left on device")
GONE = Failure(Problem.UNREACHABLE, "registry.local:9001: Connection refused")
_MAX_STEPS = 6


@dataclass
class Host:
    """A host as the daemon runs it: its disk, and what a probe on it would see."""

    accepted: DesiredCertificate | None = None
    trusted: set[str] = field(default_factory=set)
    presented: str = ""  # the fingerprint of what the registry presents; "": it does not answer
    signed_by: str = ""  # the anchor of that certificate
    disk_is_full: bool = False
    steps: list[Step] = field(default_factory=list)

    def settle(self, desired: DesiredCertificate | None) -> Decision:
        """Do the steps until there is nothing to do but to report or to wait."""
        self.steps = []
        sight, failure = None, None
        while True:
            decision = decide(desired, self.accepted, self._disk(desired), sight, failure)
            self.steps.append(decision.step)
            assert len(self.steps) <= _MAX_STEPS, self.steps
            if decision.target is None or decision.step is Step.REPORT:
                return decision
            kept = {anchor.sha256 for anchor in decision.target.anchors}
            match decision.step:
                case Step.ACCEPT | Step.TRUST if self.disk_is_full:
                    failure = FULL
                case Step.ACCEPT:
                    self.accepted = decision.target
                case Step.TRUST:
                    self.trusted |= {anchor.sha256 for anchor in decision.target.wanted}
                case Step.PROBE:
                    good = self.presented and self.signed_by in kept
                    sight = Sight(self.presented, self.presented) if good else Sight(failure=GONE)
                case Step.DROP:
                    self.trusted &= kept

    def _disk(self, desired: DesiredCertificate | None) -> Disk:
        acting = target(desired, self.accepted)
        if acting is None:
            return Disk(lacks_anchors=False, has_others=False)
        kept = {anchor.sha256 for anchor in acting.anchors}
        wanted = {anchor.sha256 for anchor in acting.wanted}
        return Disk(not wanted <= self.trusted, bool(self.trusted - kept))


def report_of(decision: Decision) -> Report[DesiredCertificate]:
    assert decision.report is not None
    return decision.report


HOSTS = st.builds(
    Host,
    accepted=st.none() | DESIRED,
    trusted=st.sets(st.sampled_from("abc")).map(lambda names: {name * 64 for name in names}),
    presented=st.sampled_from(["", "1" * 64, "2" * 64]),
    signed_by=st.sampled_from(["a" * 64, "b" * 64, "c" * 64]),
    disk_is_full=st.booleans(),
)


@given(HOSTS, st.none() | DESIRED)
def test_a_second_look_finds_nothing_to_do(host: Host, desired: DesiredCertificate | None) -> None:
    first = host.settle(desired)
    trusted = set(host.trusted)
    again = host.settle(desired)
    assert again == first
    assert host.trusted == trusted
    assert Step.DROP not in host.steps


@given(HOSTS, st.none() | DESIRED)
def test_trust_ends_only_when_the_host_itself_has_seen_the_new_certificate(
    host: Host, desired: DesiredCertificate | None
) -> None:
    trusted = set(host.trusted)
    host.settle(desired)
    if trusted - host.trusted:
        assert desired is not None
        assert desired.phase is Phase.SETTLE
        assert host.presented == desired.sha256
        assert host.signed_by in host.trusted


@given(HOSTS, st.lists(DESIRED, max_size=6))
def test_a_host_never_goes_back_whatever_the_store_says(host: Host, told: list[DesiredCertificate]) -> None:
    for desired in told:
        before = host.accepted
        report = report_of(host.settle(desired))
        assert host.accepted is before or (host.accepted and host.accepted.may_replace(before))
        if not desired.may_replace(before):
            assert report.outcome in (Outcome.AHEAD, Outcome.FAILED)
            assert report.about == before


@given(HOSTS, DESIRED)
def test_the_outcome_is_the_truth(host: Host, desired: DesiredCertificate) -> None:
    report = report_of(host.settle(desired))
    kept = {anchor.sha256 for anchor in desired.anchors}
    match report.outcome:
        case Outcome.LIVE:
            assert host.trusted == kept
            assert report.sight.docker == report.sight.containerd == host.presented == desired.sha256
        case Outcome.TRUSTED:
            assert host.trusted >= {anchor.sha256 for anchor in desired.wanted}
        case Outcome.FAILED:
            assert report.failure
        case Outcome.AHEAD:
            assert host.accepted
            assert not desired.may_replace(host.accepted)


@given(HOSTS, DESIRED)
def test_a_host_whose_disk_is_writable_again_catches_up(host: Host, desired: DesiredCertificate) -> None:
    host.accepted, host.disk_is_full = None, False
    host.presented, host.signed_by = desired.sha256, desired.anchors[0].sha256
    expected = Outcome.LIVE if desired.phase is Phase.SETTLE else Outcome.TRUSTED
    assert report_of(host.settle(desired)).outcome is expected


def change(number: int, phase: Phase, new: str, old: str) -> DesiredCertificate:
    anchors = [Anchor(name * 64, name) for name in (new, old)]
    return DesiredCertificate(
        ChangeId(number, "x"),
        phase,
        (anchors[0],),
        (anchors[1],),
        "chain",
        new * 64,
        ("registry.local",),
        9001,
    )


def test_a_change_of_the_ca_step_by_step() -> None:
    host = Host(trusted={"a" * 64}, presented="a" * 64, signed_by="a" * 64)
    assert report_of(host.settle(change(1, Phase.TRUST, "b", "a"))).outcome is Outcome.TRUSTED
    assert host.steps == [Step.ACCEPT, Step.TRUST, Step.REPORT]
    host.presented, host.signed_by = "b" * 64, "b" * 64
    assert report_of(host.settle(change(1, Phase.SETTLE, "b", "a"))).outcome is Outcome.LIVE
    assert host.steps == [Step.ACCEPT, Step.PROBE, Step.DROP, Step.REPORT]
    assert host.trusted == {"b" * 64}


def test_a_host_that_cannot_reach_the_registry_keeps_both() -> None:
    host = Host(trusted={"a" * 64}, presented="", signed_by="")
    report = report_of(host.settle(change(1, Phase.SETTLE, "b", "a")))
    assert (report.outcome, report.failure) == (Outcome.FAILED, GONE)
    assert host.trusted == {"a" * 64, "b" * 64}


def test_a_host_that_sees_another_certificate_keeps_both() -> None:
    desired = change(1, Phase.SETTLE, "b", "a")
    host = Host(trusted={"a" * 64}, presented="c" * 64, signed_by="b" * 64)
    report = report_of(host.settle(desired))
    assert report.failure
    assert report.failure.problem is Problem.OTHER_CERTIFICATE
    assert host.trusted == {"a" * 64, "b" * 64}


def test_an_older_store_heals_nothing_but_what_the_host_had() -> None:
    latest, older = change(2, Phase.SETTLE, "b", "a"), change(1, Phase.SETTLE, "a", "c")
    host = Host(accepted=latest, trusted=set(), presented="b" * 64, signed_by="b" * 64)
    for desired in (older, None):
        assert report_of(host.settle(desired)).outcome is Outcome.AHEAD
        assert host.trusted == {"b" * 64}


def test_nothing_published_is_nothing_to_do() -> None:
    assert Host().settle(None).step is Step.WAIT


def test_the_same_number_with_another_id_does_not_count_as_the_same_change() -> None:
    one = change(1, Phase.SETTLE, "a", "c")
    other = dataclasses.replace(one, change=ChangeId(1, "y"))
    assert not other.may_replace(one)


AUTHORITIES = st.builds(
    DesiredAuthorities,
    change=st.builds(ChangeId, st.integers(1, 3), st.sampled_from(["x", "y"])),
    anchors=st.just(()),
)


@given(desired=st.none() | AUTHORITIES, accepted=st.none() | AUTHORITIES)
def test_ca_certificates_never_go_back_and_the_report_says_so(
    desired: DesiredAuthorities | None, accepted: DesiredAuthorities | None
) -> None:
    acting = target(desired, accepted)
    if acting is None:
        assert desired is accepted is None
        return
    if accepted is not None:
        assert acting.change.number >= accepted.change.number
    outcome = report_authorities(desired, acting, None).outcome
    assert outcome is (Outcome.LIVE if acting == desired else Outcome.AHEAD)
    assert report_authorities(desired, acting, FULL).outcome is Outcome.FAILED
