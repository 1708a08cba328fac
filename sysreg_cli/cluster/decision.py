"""What a host does next. Pure: the daemon looks, asks here, does one step, and looks again.

At each moment docker and containerd trust the anchor of what the registry presents:

- A host adds before it removes. It removes an anchor only in the phase ``settle``, and only after its own
  probe has seen the registry present the new certificate, verified with the new anchors alone.
- A host never acts on an older change than the one it has accepted, which it keeps on its disk. A store that
  was restored from an older state may name anchors that the registry no longer uses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Generic

from sysreg_cli.cluster.problems import Problem
from sysreg_cli.cluster.records import D, DesiredAuthorities, DesiredCertificate, Outcome, Phase


class Step(StrEnum):
    """What the daemon does before it looks again."""

    ACCEPT = "accept"  # keep the desired state on the disk, before anything is changed for it
    TRUST = "trust"  # add the anchors that docker or containerd lack
    PROBE = "probe"  # look at what the registry presents
    DROP = "drop"  # remove every anchor that is not to stay
    REPORT = "report"  # write the status, and wait
    WAIT = "wait"  # nothing is desired yet


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong. ``reason`` names the file or the address."""

    problem: Problem
    reason: str


@dataclass(frozen=True, slots=True)
class Disk:
    """How docker's and containerd's directories compare with what the host acts on."""

    lacks_anchors: bool  # one of them does not trust an anchor that it is to trust now
    has_others: bool  # one of them trusts, or names, another anchor of sysreg than those that stay


@dataclass(frozen=True, slots=True)
class Sight:
    """What the probe saw. The fingerprints are those of the server certificate, "" if none was verified."""

    docker: str = ""
    containerd: str = ""
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Report(Generic[D]):
    """What a host says of itself; see ``HostStatus``. CA certificates have no sight."""

    about: D
    outcome: Outcome
    failure: Failure | None = None
    sight: Sight = Sight()


@dataclass(frozen=True, slots=True)
class Decision:
    """The next step, and which desired state it is for. ``report`` belongs to Step.REPORT."""

    step: Step
    target: DesiredCertificate | None
    report: Report[DesiredCertificate] | None = None


def target(desired: D | None, accepted: D | None) -> D | None:
    """Return what the host acts on: ``desired``, or what it has ``accepted`` if ``desired`` leads back."""
    return desired if desired is not None and desired.may_replace(accepted) else accepted


def decide(
    desired: DesiredCertificate | None,
    accepted: DesiredCertificate | None,
    disk: Disk,
    sight: Sight | None = None,
    failure: Failure | None = None,
) -> Decision:
    """Decide what comes next.

    ``desired`` is what the store says, ``accepted`` is what the host keeps of it on its disk. ``disk`` is
    about ``target``. ``sight`` is what a probe saw since the desired state or the disk last changed.
    ``failure`` is that of the last step.
    """
    acting = target(desired, accepted)
    if acting is None:
        return Decision(Step.WAIT, None)
    if failure is not None:
        return _report(acting, Outcome.FAILED, failure)
    if acting != accepted:
        return Decision(Step.ACCEPT, acting)
    if disk.lacks_anchors:
        return Decision(Step.TRUST, acting)
    if acting != desired:
        return _report(acting, Outcome.AHEAD, Failure(Problem.AHEAD, _behind(desired, acting)))
    if acting.phase is not Phase.SETTLE:
        return _report(acting, Outcome.TRUSTED)
    if sight is None:
        return Decision(Step.PROBE, acting)
    sight = _judged(sight, acting)
    if sight.failure is not None:
        return _report(acting, Outcome.FAILED, sight.failure, sight)
    if disk.has_others:
        return Decision(Step.DROP, acting)
    return _report(acting, Outcome.LIVE, sight=sight)


def _judged(sight: Sight, acting: DesiredCertificate) -> Sight:
    """Return ``sight`` with a failure if the probe verified another certificate than the desired one."""
    others = {sight.docker, sight.containerd} - {acting.sha256}
    if sight.failure is not None or not others:
        return sight
    other = max(others)
    reason = f"the registry presents {other[:16] or 'nothing'}, not {acting.sha256[:16]}"
    return replace(sight, failure=Failure(Problem.OTHER_CERTIFICATE, reason))


def report_authorities(
    desired: DesiredAuthorities | None, acting: DesiredAuthorities, failure: Failure | None
) -> Report[DesiredAuthorities]:
    """Return what a host says that has tried to trust exactly ``acting``, the ``target``.

    Nobody presents these certificates to a probe, so there is one step.
    """
    if failure is not None:
        return Report(acting, Outcome.FAILED, failure)
    if acting != desired:
        return Report(acting, Outcome.AHEAD, Failure(Problem.AHEAD, _behind(desired, acting)))
    return Report(acting, Outcome.LIVE)


def _behind(desired: D | None, acting: D) -> str:
    store = desired.title if desired else "no change at all"
    return f"this host has seen {acting.title}, the store has {store}"


def _report(
    acting: DesiredCertificate, outcome: Outcome, failure: Failure | None = None, sight: Sight | None = None
) -> Decision:
    return Decision(Step.REPORT, acting, Report(acting, outcome, failure, sight or Sight()))
