"""What the controller makes of its hosts: the state of each, and whether a change may go on. Pure.

``alive`` is a hint: a lease may outlive its host, and a stolen credential may prolong it. So it decides only
for whom a change waits. Whether a host trusts a certificate is what its status says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sysreg_cli.cluster.problems import Problem, remedy
from sysreg_cli.cluster.records import (
    Alive,
    DesiredCertificate,
    HostSpec,
    HostStatus,
    Outcome,
    Phase,
)


class State(StrEnum):
    """How a host stands to the desired certificate."""

    LIVE = "live"  # it trusts only the certificate in use, and its own probe has seen that
    TRUSTED = "trusted"  # it trusts the certificate, and has not seen the registry present it yet
    BEHIND = "behind"  # it is there, and has not yet acted on the latest change
    FAILED = "failed"
    AHEAD = "ahead"  # it has seen a later change than the store has
    DOWN = "down"
    JOINING = "joining"  # it was added, and has never been there


@dataclass(frozen=True, slots=True)
class HostRecord:
    """What the store holds of one host. None: there is no such key, or its value makes no sense."""

    name: str
    spec: HostSpec
    status: HostStatus | None = None
    alive: Alive | None = None


@dataclass(frozen=True, slots=True)
class HostJudgement:
    """The state of a host. ``since`` is ISO 8601 in UTC, "" if nobody knows it."""

    record: HostRecord
    state: State
    since: str
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a change may go on. ``blocked`` never will by waiting, ``waiting`` may soon do."""

    blocked: tuple[HostJudgement, ...] = ()
    waiting: tuple[HostJudgement, ...] = ()

    @property
    def may_go_on(self) -> bool:
        return not self.blocked and not self.waiting


def judge(
    desired: DesiredCertificate | None, record: HostRecord, gone_since: Mapping[str, str] | None = None
) -> HostJudgement:
    """Return the state of a host. ``gone_since`` maps hosts to when their ``alive`` was seen to go."""
    status = record.status
    if record.alive is None:
        if status is None:
            return HostJudgement(
                record, State.JOINING, record.spec.created, *_missing("the host has never reported")
            )
        return _down(record, status, (gone_since or {}).get(record.name, ""))
    if status is None or status.boot_id != record.alive.boot_id:
        since = status.at if status else record.spec.created
        return HostJudgement(record, State.BEHIND, since, "it has not reported since it started")
    if status.outcome is Outcome.AHEAD:
        return _with_problem(record, State.AHEAD, status)
    if desired is None:
        return HostJudgement(record, State.BEHIND, status.at, "no certificate is published")
    if status.change != desired.change or status.phase.position > desired.phase.position:
        return _elsewhere(record, status, desired)
    if status.outcome is Outcome.FAILED:
        return _with_problem(record, State.FAILED, status)
    return _on_the_way(record, status, desired)


def _down(record: HostRecord, status: HostStatus, gone: str) -> HostJudgement:
    reason = f"the host does not answer; its last report ({status.outcome}) is of {status.at}"
    return HostJudgement(record, State.DOWN, gone or status.at, *_missing(reason))


def _missing(reason: str) -> tuple[str, str]:
    return reason, "check that the host runs, its network, and `systemctl status sysreg-host` there"


def _elsewhere(record: HostRecord, status: HostStatus, desired: DesiredCertificate) -> HostJudgement:
    """Return the judgement on a host whose report is about another change."""
    if status.change.number >= desired.change.number:
        reason = f"it has seen change {status.change.number}, the store has change {desired.change.number}"
        return HostJudgement(record, State.AHEAD, status.at, reason, remedy(Problem.AHEAD))
    reason = f"it has acted on change {status.change.number}, the latest is {desired.change.number}"
    return HostJudgement(record, State.BEHIND, status.at, reason)


def _with_problem(record: HostRecord, state: State, status: HostStatus) -> HostJudgement:
    return HostJudgement(
        record, state, status.at, status.reason or str(status.problem), remedy(status.problem)
    )


def _on_the_way(record: HostRecord, status: HostStatus, desired: DesiredCertificate) -> HostJudgement:
    """Return the judgement on a host that acts on the desired change without a problem."""
    if status.outcome is Outcome.TRUSTED:
        return HostJudgement(record, State.TRUSTED, status.at)
    if status.docker == status.containerd == desired.sha256:
        return HostJudgement(record, State.LIVE, status.at)
    return HostJudgement(record, State.BEHIND, status.at, "its probe saw another certificate")


def may_switch(
    desired: DesiredCertificate,
    records: Sequence[HostRecord],
    alive_at_start: Collection[str],
    *,
    require_all: bool = False,
) -> Verdict:
    """Return whether the registry may change over to ``desired``, which is in the phase ``trust``.

    Each host of ``alive_at_start`` has to trust the new certificate. Others do not count, unless
    ``require_all``: then each host has to. A host that went down meanwhile is waited for, because it may
    pull while it cannot report.
    """
    wanted = [record for record in records if require_all or record.name in alive_at_start]
    return _verdict(desired, wanted, (State.TRUSTED, State.LIVE), alive_at_start)


def has_settled(
    desired: DesiredCertificate, records: Sequence[HostRecord], alive_at_start: Collection[str]
) -> Verdict:
    """Return whether each host of ``alive_at_start`` is live. ``desired`` is in the phase ``settle``."""
    assert desired.phase is Phase.SETTLE
    wanted = [record for record in records if record.name in alive_at_start]
    return _verdict(desired, wanted, (State.LIVE,), alive_at_start)


def _verdict(
    desired: DesiredCertificate,
    records: Sequence[HostRecord],
    good: Collection[State],
    alive_at_start: Collection[str],
) -> Verdict:
    blocked: list[HostJudgement] = []
    waiting: list[HostJudgement] = []
    for judgement in (judge(desired, record) for record in records):
        if judgement.state in good:
            continue
        was_there = judgement.record.name in alive_at_start
        hopeless = judgement.state in (State.FAILED, State.AHEAD) or not was_there
        (blocked if hopeless else waiting).append(judgement)
    return Verdict(tuple(blocked), tuple(waiting))
