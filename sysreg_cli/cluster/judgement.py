"""What the controller makes of its hosts: the state of each, and whether a change may go on. Pure.

``alive`` is a hint: a lease may outlive its host, and a stolen credential may prolong it. So it decides only
for whom a change waits. Whether a host trusts a certificate is what its status says.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from sysreg_cli.cluster.problems import Problem, remedy
from sysreg_cli.cluster.records import (
    Alive,
    AuthoritiesStatus,
    DesiredAuthorities,
    DesiredCertificate,
    HostSpec,
    HostStatus,
    Outcome,
    Phase,
)

_OLD_VERSION = "if that is older than the controller's, upgrade sysreg on that host"


class State(StrEnum):
    """How a host stands to the desired certificate, and to the desired CA certificates.

    Of CA certificates there is no TRUSTED, and LIVE says that the bundle of the host's system has them.
    """

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
    if silent := _silent(record, gone_since):
        return silent
    status = record.status
    assert status is not None
    if status.outcome is Outcome.AHEAD:
        return _with_problem(record, State.AHEAD, status)
    if desired is None:
        return HostJudgement(record, State.BEHIND, status.at, "no certificate is published")
    if status.change != desired.change or status.phase.position > desired.phase.position:
        return _elsewhere(record, status, desired)
    if status.outcome is Outcome.FAILED:
        return _with_problem(record, State.FAILED, status)
    return _on_the_way(record, status, desired)


def judge_authorities(
    desired: DesiredAuthorities | None, record: HostRecord, gone_since: Mapping[str, str] | None = None
) -> HostJudgement:
    """Return how a host stands to the desired CA certificates. None are desired if none were ever added."""
    if silent := _silent(record, gone_since):
        return silent
    status = record.status
    assert status is not None
    done = status.authorities
    if done is None:
        if desired is None or not desired.anchors:
            return HostJudgement(record, State.LIVE, status.at)
        reason = f"its sysreg-host ({status.version or 'of an old version'}) has not reported on them"
        return HostJudgement(record, State.BEHIND, status.at, reason, _OLD_VERSION)
    if done.outcome is Outcome.AHEAD:
        return _with_problem(record, State.AHEAD, done)
    if desired is None:
        return HostJudgement(record, State.BEHIND, done.at, "no CA certificates are published")
    if done.change != desired.change:
        return _elsewhere(record, done, desired)
    if done.outcome is Outcome.FAILED:
        return _with_problem(record, State.FAILED, done)
    return HostJudgement(record, State.LIVE, done.at)


def overall(certificate: HostJudgement, authorities: HostJudgement) -> HostJudgement:
    """Return the judgement for a list: that on the registry's certificate, if it is not the better one."""
    if certificate.state is not State.LIVE or authorities.state is State.LIVE:
        return certificate
    return replace(authorities, reason=f"CA certificates: {authorities.reason}")


def _silent(record: HostRecord, gone_since: Mapping[str, str] | None) -> HostJudgement | None:
    """Return the judgement on a host that is not there, or has said nothing since it started."""
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
    return None


def _down(record: HostRecord, status: HostStatus, gone: str) -> HostJudgement:
    reason = f"the host does not answer; its last report ({status.outcome}) is of {status.at}"
    return HostJudgement(record, State.DOWN, gone or status.at, *_missing(reason))


def _missing(reason: str) -> tuple[str, str]:
    return reason, "check that the host runs, its network, and `systemctl status sysreg-host` there"


def _elsewhere(
    record: HostRecord,
    status: HostStatus | AuthoritiesStatus,
    desired: DesiredCertificate | DesiredAuthorities,
) -> HostJudgement:
    """Return the judgement on a host whose report is about another change."""
    if status.change.number >= desired.change.number:
        reason = f"it has seen change {status.change.number}, the store has change {desired.change.number}"
        return HostJudgement(record, State.AHEAD, status.at, reason, remedy(Problem.AHEAD))
    reason = f"it has acted on change {status.change.number}, the latest is {desired.change.number}"
    return HostJudgement(record, State.BEHIND, status.at, reason)


def _with_problem(record: HostRecord, state: State, status: HostStatus | AuthoritiesStatus) -> HostJudgement:
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
    return _verdict((judge(desired, one) for one in wanted), (State.TRUSTED, State.LIVE), alive_at_start)


def has_settled(
    desired: DesiredCertificate, records: Sequence[HostRecord], alive_at_start: Collection[str]
) -> Verdict:
    """Return whether each host of ``alive_at_start`` is live. ``desired`` is in the phase ``settle``."""
    assert desired.phase is Phase.SETTLE
    wanted = [record for record in records if record.name in alive_at_start]
    return _verdict((judge(desired, one) for one in wanted), (State.LIVE,), alive_at_start)


def have_authorities(
    desired: DesiredAuthorities | None, records: Sequence[HostRecord], alive_at_start: Collection[str]
) -> Verdict:
    """Return whether each host of ``alive_at_start`` trusts exactly the desired CA certificates."""
    wanted = [record for record in records if record.name in alive_at_start]
    judgements = (judge_authorities(desired, one) for one in wanted)
    return _verdict(judgements, (State.LIVE,), alive_at_start)


def _verdict(
    judgements: Iterable[HostJudgement],
    good: Collection[State],
    alive_at_start: Collection[str],
) -> Verdict:
    blocked: list[HostJudgement] = []
    waiting: list[HostJudgement] = []
    for judgement in judgements:
        if judgement.state in good:
            continue
        was_there = judgement.record.name in alive_at_start
        hopeless = judgement.state in (State.FAILED, State.AHEAD) or not was_there
        (blocked if hopeless else waiting).append(judgement)
    return Verdict(tuple(blocked), tuple(waiting))
