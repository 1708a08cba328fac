"""What the controller makes of its hosts, and when a change of the certificate may go on."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysreg_cli.cluster.judgement import (
    HostRecord,
    State,
    has_settled,
    have_authorities,
    judge,
    judge_authorities,
    may_switch,
    overall,
)
from sysreg_cli.cluster.problems import Problem
from sysreg_cli.cluster.records import (
    Alive,
    Anchor,
    AuthoritiesStatus,
    ChangeId,
    DesiredAuthorities,
    DesiredCertificate,
    HostSpec,
    HostStatus,
    Outcome,
    Phase,
    Role,
)

SPEC = HostSpec(Role.WORKER, "2026-11-27T00:00:00+00:00")
NOW = ChangeId(5, "now")
SHA = "1" * 64
DESIRED = DesiredCertificate(
    NOW, Phase.SETTLE, (Anchor("a" * 64, "pem"),), (), "chain", SHA, ("registry.local",), 9001
)
TRUSTING = dataclasses.replace(DESIRED, phase=Phase.TRUST)


def status(outcome: Outcome, change: ChangeId = NOW, phase: Phase = Phase.SETTLE, **more: str) -> HostStatus:
    seen = SHA if outcome is Outcome.LIVE else ""
    fields = {"docker": seen, "containerd": seen, **more}
    made = HostStatus(change, phase, outcome, "2026-11-27T01:00:00+00:00", "boot")
    return dataclasses.replace(made, **fields)  # type: ignore[arg-type]


def host(name: str, said: HostStatus | None, *, alive: bool = True, boot: str = "boot") -> HostRecord:
    return HostRecord(name, SPEC, said, Alive(boot) if alive else None)


LIVE, TRUSTED = status(Outcome.LIVE), status(Outcome.TRUSTED, phase=Phase.TRUST)
FULL = status(Outcome.FAILED, phase=Phase.TRUST, problem=Problem.DISK_FULL, reason="/etc: No space left")


@pytest.mark.parametrize(
    ("record", "state"),
    [
        (host("w", LIVE), State.LIVE),
        (host("w", status(Outcome.TRUSTED)), State.TRUSTED),
        (host("w", status(Outcome.TRUSTED, phase=Phase.TRUST)), State.TRUSTED),
        (host("w", status(Outcome.FAILED, problem=Problem.UNREACHABLE)), State.FAILED),
        (host("w", status(Outcome.AHEAD, ChangeId(6, "later"))), State.AHEAD),
        (host("w", status(Outcome.LIVE, ChangeId(6, "later"))), State.AHEAD),
        (host("w", status(Outcome.LIVE, ChangeId(5, "other"))), State.AHEAD),
        (host("w", status(Outcome.LIVE, ChangeId(4, "before"))), State.BEHIND),
        (host("w", status(Outcome.FAILED, ChangeId(4, "before"))), State.BEHIND),
        (host("w", status(Outcome.LIVE, docker="2" * 64)), State.BEHIND),
        (host("w", LIVE, boot="the next boot"), State.BEHIND),
        (host("w", None), State.BEHIND),
        (host("w", LIVE, alive=False), State.DOWN),
        (host("w", status(Outcome.AHEAD, ChangeId(6, "later")), alive=False), State.DOWN),
        (host("w", None, alive=False), State.JOINING),
    ],
)
def test_the_state_of_a_host(record: HostRecord, state: State) -> None:
    judgement = judge(DESIRED, record)
    assert judgement.state is state
    assert judgement.since
    assert bool(judgement.reason or judgement.remedy) == (state not in (State.LIVE, State.TRUSTED))


def test_a_host_is_down_since_its_lease_ended_not_since_its_last_report() -> None:
    gone = {"w": "2026-11-27T02:00:00+00:00"}
    assert judge(DESIRED, host("w", LIVE, alive=False), gone).since == gone["w"]
    assert judge(DESIRED, host("w", LIVE, alive=False)).since == LIVE.at


@pytest.mark.parametrize("problem", Problem)
def test_a_failed_host_is_shown_with_reason_and_remedy(problem: Problem) -> None:
    judgement = judge(DESIRED, host("w", status(Outcome.FAILED, problem=problem, reason="why")))
    assert judgement.reason == "why"
    assert judgement.remedy


def test_a_change_waits_for_the_hosts_that_were_there_and_for_no_others() -> None:
    down = host("down", LIVE, alive=False)
    behind = host("slow", status(Outcome.LIVE, ChangeId(4, "before")))
    ready = host("ready", TRUSTED)
    assert may_switch(TRUSTING, [down, ready], {"ready"}).may_go_on
    verdict = may_switch(TRUSTING, [down, behind, ready], {"ready", "slow"})
    assert not verdict.may_go_on
    assert [judgement.record.name for judgement in verdict.waiting] == ["slow"]
    assert not verdict.blocked


def test_a_host_that_goes_down_meanwhile_is_waited_for() -> None:
    verdict = may_switch(TRUSTING, [host("w", LIVE, alive=False)], {"w"})
    assert [judgement.state for judgement in verdict.waiting] == [State.DOWN]


def test_a_live_host_that_fails_stops_the_change_and_is_named() -> None:
    verdict = may_switch(TRUSTING, [host("ready", TRUSTED), host("full", FULL)], {"ready", "full"})
    (blocked,) = verdict.blocked
    assert (blocked.record.name, blocked.reason) == ("full", "/etc: No space left")


def test_with_require_all_a_host_that_is_down_stops_the_change() -> None:
    records = [host("ready", TRUSTED), host("down", LIVE, alive=False)]
    verdict = may_switch(TRUSTING, records, {"ready"}, require_all=True)
    assert [judgement.record.name for judgement in verdict.blocked] == ["down"]


def test_a_change_is_done_when_each_host_that_was_there_is_live() -> None:
    records = [host("live", LIVE), host("trusts", status(Outcome.TRUSTED)), host("late", LIVE)]
    assert [one.record.name for one in has_settled(DESIRED, records, {"live", "trusts"}).waiting] == [
        "trusts"
    ]
    assert has_settled(DESIRED, records, {"live", "late"}).may_go_on


OUTCOMES = st.builds(
    status,
    st.sampled_from(Outcome),
    st.sampled_from([NOW, ChangeId(4, "before"), ChangeId(6, "later"), ChangeId(5, "other")]),
    st.sampled_from(Phase),
)
RECORDS = st.lists(
    st.builds(
        host,
        st.sampled_from("abcd"),
        st.none() | OUTCOMES,
        alive=st.booleans(),
        boot=st.sampled_from(["boot", "the next boot"]),
    ),
    unique_by=lambda record: record.name,
)


@given(RECORDS, st.sets(st.sampled_from("abcd")), st.booleans())
def test_the_registry_never_changes_over_before_each_host_that_was_there_trusts(
    records: list[HostRecord], there: set[str], require_all: bool
) -> None:
    if may_switch(TRUSTING, records, there, require_all=require_all).may_go_on:
        for record in records:
            if record.name in there or require_all:
                assert record.status
                assert record.status.change == NOW
                assert record.status.outcome in (Outcome.TRUSTED, Outcome.LIVE)


@given(RECORDS, st.sets(st.sampled_from("abcd")))
def test_a_change_that_is_called_done_is_live_on_each_host_that_was_there(
    records: list[HostRecord], there: set[str]
) -> None:
    if has_settled(DESIRED, records, there).may_go_on:
        for record in records:
            if record.name in there:
                assert record.status
                assert record.status.docker == record.status.containerd == SHA


@given(st.none() | st.just(DESIRED) | st.just(TRUSTING), RECORDS)
def test_every_host_has_a_state_and_what_is_not_well_has_a_reason(
    desired: DesiredCertificate | None, records: list[HostRecord]
) -> None:
    for record in records:
        judgement = judge(desired, record)
        assert judgement.reason or judgement.state in (State.LIVE, State.TRUSTED) or judgement.remedy


CAS = DesiredAuthorities(ChangeId(3, "cas"), (Anchor("c" * 64, "pem"),))
NO_CAS = dataclasses.replace(CAS, anchors=())


def has(outcome: Outcome, change: ChangeId = CAS.change, problem: str = "") -> HostStatus:
    done = AuthoritiesStatus(change, outcome, "2026-11-27T02:00:00+00:00", problem, "why" if problem else "")
    return dataclasses.replace(LIVE, authorities=done)


@pytest.mark.parametrize(
    ("desired", "record", "state"),
    [
        (CAS, host("w", has(Outcome.LIVE)), State.LIVE),
        (NO_CAS, host("w", has(Outcome.LIVE)), State.LIVE),
        (CAS, host("w", has(Outcome.FAILED, problem=Problem.DISK_FULL)), State.FAILED),
        (CAS, host("w", has(Outcome.LIVE, ChangeId(2, "before"))), State.BEHIND),
        (CAS, host("w", has(Outcome.LIVE, ChangeId(4, "later"))), State.AHEAD),
        (CAS, host("w", has(Outcome.LIVE, ChangeId(3, "other"))), State.AHEAD),
        (CAS, host("w", has(Outcome.AHEAD, ChangeId(4, "later"), Problem.AHEAD)), State.AHEAD),
        (CAS, host("w", has(Outcome.LIVE), boot="the next boot"), State.BEHIND),
        (CAS, host("w", has(Outcome.LIVE), alive=False), State.DOWN),
        (CAS, host("w", None, alive=False), State.JOINING),
        (CAS, host("w", LIVE), State.BEHIND),  # an older sysreg-host, which does not know them
        (NO_CAS, host("w", LIVE), State.LIVE),
        (None, host("w", LIVE), State.LIVE),
        (None, host("w", has(Outcome.LIVE)), State.BEHIND),
    ],
)
def test_how_a_host_stands_to_the_ca_certificates(
    desired: DesiredAuthorities | None, record: HostRecord, state: State
) -> None:
    judgement = judge_authorities(desired, record)
    assert judgement.state is state
    assert judgement.since
    assert bool(judgement.reason) == (state is not State.LIVE)
    verdict = have_authorities(desired, [record], ["w"])
    assert verdict.may_go_on == (state is State.LIVE)
    assert bool(verdict.blocked) == (state in (State.FAILED, State.AHEAD))


def test_a_host_with_an_older_daemon_is_told_to_be_upgraded() -> None:
    judgement = judge_authorities(CAS, host("w", dataclasses.replace(LIVE, version="0.1.9")))
    assert "0.1.9" in judgement.reason
    assert "upgrade sysreg on that host" in judgement.remedy


@pytest.mark.parametrize(
    ("said", "state", "reason"),
    [
        (has(Outcome.LIVE), State.LIVE, ""),
        (has(Outcome.FAILED, problem=Problem.READ_ONLY), State.FAILED, "CA certificates: why"),
        (dataclasses.replace(has(Outcome.FAILED), outcome=Outcome.TRUSTED), State.TRUSTED, ""),
    ],
)
def test_the_list_shows_the_worse_of_the_two(said: HostStatus, state: State, reason: str) -> None:
    record = host("w", said)
    shown = overall(judge(DESIRED, record), judge_authorities(CAS, record))
    assert (shown.state, shown.reason) == (state, reason)
