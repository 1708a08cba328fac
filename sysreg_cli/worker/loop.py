"""When this host looks at itself again: after a change, after a failure, and every few seconds."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from sysreg_cli.cluster.decision import Failure, Report
from sysreg_cli.cluster.keys import CERTIFICATE
from sysreg_cli.cluster.port import Entry, Listing
from sysreg_cli.cluster.problems import Problem
from sysreg_cli.cluster.records import DesiredCertificate, Outcome, decode
from sysreg_cli.errors import ProtocolError, SysregError
from sysreg_cli.worker.reconciler import Reconciler
from sysreg_cli.worker.reporter import Reporter

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds until the next look: if all is well, and at first and at most after a failure."""

    healthy: float = 10.0
    first_retry: float = 0.5
    max_retry: float = 10.0


class Loop:
    """Runs the reconciler, and tells what came of it. Other threads call ``see`` and ``stop``."""

    def __init__(
        self,
        reconciler: Reconciler,
        reporter: Reporter,
        *,
        on_first_look: Callable[[], None] = lambda: None,
        pace: Pace = Pace(),
    ) -> None:
        self._reconciler = reconciler
        self._reporter = reporter
        self._on_first_look = on_first_look
        self._pace = pace
        self._entry: Entry | None = None
        self._has_view = False
        self._wake = threading.Event()
        self._stopping = False
        self._said = ""

    def see(self, listing: Listing) -> None:
        """Take what the store says is desired."""
        self._entry = listing.entries.get(CERTIFICATE)
        self._has_view = True
        self._wake.set()

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()

    def run(self) -> None:
        """Look again and again, until ``stop``."""
        retry = self._pace.first_retry
        has_looked = False
        while not self._stopping:
            self._wake.clear()
            knows_store = self._has_view
            try:
                well = self._look()
            except Exception:
                _log.exception("this look failed")
                well = False
            if knows_store and not has_looked:
                has_looked = True
                self._on_first_look()
            retry = self._pace.first_retry if well else min(2 * retry, self._pace.max_retry)
            self._wake.wait(self._pace.healthy if well else retry)

    def _look(self) -> bool:
        """Reconcile and report. Return whether this host is as desired and the store knows it."""
        report = self._reconcile()
        if report is None:
            return True
        self._say(report)
        if not self._has_view:
            return True  # the store has not answered yet
        try:
            self._reporter.tell(report)
        except SysregError as error:
            _log.debug("not reported: %s", error)
            return False
        return report.outcome is not Outcome.FAILED

    def _reconcile(self) -> Report | None:
        accepted = self._reconciler.accepted
        if not self._has_view:
            return self._reconciler.run(accepted)
        try:
            desired = decode(DesiredCertificate, self._entry.value, CERTIFICATE) if self._entry else None
        except ProtocolError as error:
            report = self._reconciler.run(accepted)
            failure = Failure(Problem.DAMAGED, str(error))
            return Report(report.about, Outcome.FAILED, failure) if report else None
        return self._reconciler.run(desired)

    def _say(self, report: Report) -> None:
        """Log an outcome once."""
        text = f"change {report.about.change.number} ({report.about.phase}): {report.outcome}"
        if report.failure:
            text += f": {report.failure.reason}"
        if text != self._said:
            _log.log(logging.WARNING if report.failure else logging.INFO, "%s", text)
        self._said = text
