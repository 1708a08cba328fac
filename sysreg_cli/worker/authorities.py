"""Has the system of this host trust the desired CA certificates, those of certificate-install -m ssl_ca.

The system's bundle is changed with the code of the controller. Docker and containerd read it only when they
start; at a boot they start after this daemon has looked once.
"""

from __future__ import annotations

import logging

from sysreg_cli.cluster.decision import Failure, Report, report_authorities, target
from sysreg_cli.cluster.problems import Problem
from sysreg_cli.cluster.records import DesiredAuthorities, Outcome
from sysreg_cli.errors import ProtocolError, SysregError
from sysreg_cli.host import files
from sysreg_cli.host.system_bundle import SystemBundle
from sysreg_cli.settings import Settings
from sysreg_cli.worker.acting import AcceptedRecord, certificates_of
from sysreg_cli.worker.reconciler import failure_of

_log = logging.getLogger(__name__)


class AuthorityReconciler:
    """Keeps the CA certificates of this host equal to what is desired. Used by one thread."""

    def __init__(self, settings: Settings) -> None:
        self._paths = settings.paths
        self._bundle = SystemBundle(settings.paths)
        self._record = AcceptedRecord(settings.paths.state / "desired-authorities.json", DesiredAuthorities)
        self._accepted = self._record.load()
        self._has_rebuilt = False

    @property
    def accepted(self) -> DesiredAuthorities | None:
        """What this host has acted on last."""
        return self._accepted

    def run(self, desired: DesiredAuthorities | None) -> Report[DesiredAuthorities] | None:
        """Do what is left to do, and return what came of it; None if nothing was ever desired.

        Takes seconds if something has changed. Never raises what a full disk or a wrong value causes: that is
        the outcome.
        """
        acting = target(desired, self._accepted)
        if acting is None:
            return None
        failure: Failure | None = None
        try:
            self._act_on(acting)
        except ProtocolError as error:
            return Report(acting, Outcome.FAILED, Failure(Problem.DAMAGED, str(error)))
        except OSError as error:
            failure = failure_of(error)
        except SysregError as error:
            failure = Failure(Problem.SYSTEM_TRUST, error.message)
        return report_authorities(desired, acting, failure)

    def _act_on(self, acting: DesiredAuthorities) -> None:
        """Raises ProtocolError, OSError, and SysregError if the bundle cannot be rebuilt."""
        certificates = certificates_of(acting.anchors)
        if acting != self._accepted:
            self._record.save(acting)
            self._accepted = acting
        # a bundle that was restored from a backup may lack them, so the first look rebuilds it
        has_to_rebuild = bool(certificates) and not self._has_rebuilt
        if has_to_rebuild or not self._bundle.holds_only(certificates):
            files.remove_leftovers(self._paths.system_trust)
            self._bundle.replace_all(certificates)
            _log.info("%s: %d in the bundle of this system", acting.title, len(certificates))
        self._has_rebuilt = True
