"""Makes this host as desired, step by step. The same at boot, after a change, and after a break."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from pathlib import Path

from sysreg_cli.cluster.decision import Decision, Disk, Failure, Report, Sight, Step, decide, target
from sysreg_cli.cluster.problems import Problem
from sysreg_cli.cluster.records import DesiredCertificate, Outcome
from sysreg_cli.errors import ProtocolError, text_of
from sysreg_cli.host import anchors, failpoint, files
from sysreg_cli.settings import Settings
from sysreg_cli.worker import sight as sights
from sysreg_cli.worker.acting import AcceptedRecord, Acting, act_on

_log = logging.getLogger(__name__)

#: A run has one step of each kind at most. More would be a defect, which must not spin.
_MAX_STEPS = 8


class Reconciler:
    """Keeps docker's and containerd's trust equal to what is desired.

    ``look`` is the probe; a test may give another. Used by one thread.
    """

    def __init__(self, settings: Settings, look: Callable[[Acting], Sight] = sights.look) -> None:
        self._settings = settings
        path = settings.paths.state / "desired-certificate.json"
        self._record = AcceptedRecord(path, DesiredCertificate)
        self._accepted = self._record.load()
        self._look = look
        self._cleaned = False

    @property
    def accepted(self) -> DesiredCertificate | None:
        """What this host has acted on last."""
        return self._accepted

    def run(self, desired: DesiredCertificate | None) -> Report[DesiredCertificate] | None:
        """Do what is left to do, and return what came of it; None if nothing was ever desired.

        Takes seconds if the registry does not answer. Never raises what a full disk or a wrong value causes:
        that is the outcome.
        """
        acting: Acting | None = None
        sight: Sight | None = None
        failure: Failure | None = None
        for _ in range(_MAX_STEPS):
            chosen = target(desired, self._accepted)
            if chosen is None:
                return None
            try:
                if acting is None or acting.desired != chosen:
                    acting = act_on(chosen, self._settings)
                decision = decide(desired, self._accepted, self._compare(acting), sight, failure)
                if decision.step is Step.REPORT:
                    return self._checked(decision, acting)
                if decision.step is Step.PROBE:
                    sight = self._look(acting)
                else:
                    self._change(decision.step, acting)
            except ProtocolError as error:
                return Report(chosen, Outcome.FAILED, Failure(Problem.DAMAGED, str(error)))
            except OSError as error:
                failure = failure_of(error)
        raise AssertionError(f"no end after {_MAX_STEPS} steps")

    def _compare(self, acting: Acting) -> Disk:
        return Disk(
            lacks_anchors=bool(anchors.trust_also(acting.settings, *acting.wanted)),
            has_others=bool(anchors.trust_only(acting.settings, *acting.kept) or _outdated(acting)),
        )

    def _change(self, step: Step, acting: Acting) -> None:
        """Raises OSError."""
        failpoint.reach(f"host {step}")
        match step:
            case Step.ACCEPT:
                self._clean(acting)
                self._record.save(acting.desired)
                self._accepted = acting.desired
                return
            case Step.TRUST:
                changes = anchors.trust_also(acting.settings, *acting.wanted)
            case _:
                changes = anchors.trust_only(acting.settings, *acting.kept)
                for directory in _outdated(acting):
                    _end_trust(directory)
        self._clean(acting)
        for change in changes:
            change.apply()
            _log.info("change %d: %s", acting.desired.change.number, change.description)

    def _clean(self, acting: Acting) -> None:
        """Remove what interrupted writes have left, once."""
        if not self._cleaned:
            paths = acting.settings.paths
            roots = (paths.docker_trust, paths.containerd_trust)
            addresses = acting.settings.registry.addresses
            files.remove_leftovers(*(root / one for root in roots for one in addresses))
            self._cleaned = True

    def _checked(self, decision: Decision, acting: Acting) -> Report[DesiredCertificate]:
        """Return the report, of a failure if a file of the administrator takes the trust away."""
        report = decision.report
        assert report is not None
        if report.outcome is Outcome.TRUSTED and (failure := sights.distrusting_file(acting)):
            return Report(report.about, Outcome.FAILED, failure)
        return report


def _outdated(acting: Acting) -> list[Path]:
    """Return the directories with anchors of sysreg for names or a port that the registry had before."""
    paths, addresses = acting.settings.paths, acting.settings.registry.addresses
    found = (one for root in (paths.docker_trust, paths.containerd_trust) for one in root.glob("*:*"))
    return [one for one in found if one.name not in addresses and anchors.managed_anchors(one)]


def _end_trust(directory: Path) -> None:
    """Remove the files of sysreg from a directory of certs.d. Raises OSError."""
    hosts_toml = directory / "hosts.toml"
    if not anchors.is_foreign(hosts_toml):
        files.remove(hosts_toml)
    for path in anchors.managed_anchors(directory):
        files.remove(path)
    _log.info("the trust at %s has ended", directory.name)


def failure_of(error: OSError) -> Failure:
    """Return the failure that an error of a file stands for."""
    problem = Problem.READ_ONLY if error.errno == errno.EROFS else Problem.NOT_WRITABLE
    return Failure(Problem.DISK_FULL if files.is_full(error) else problem, text_of(error))
