"""What one look of this host does: it reads what is desired, makes this host so, and reports what came of it.

There are two duties: the registry's certificate, and CA certificates. Each has a thread of its own, because
the system's bundle takes seconds to rebuild.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Generic, Protocol

from sysreg_cli.cluster.decision import Failure, Report, Sight
from sysreg_cli.cluster.port import Listing
from sysreg_cli.cluster.problems import Problem
from sysreg_cli.cluster.records import D, Outcome, decode
from sysreg_cli.errors import ProtocolError, SysregError

_log = logging.getLogger(__name__)


class Reconciling(Protocol[D]):
    """Makes this host as desired; see ``reconciler`` and ``authorities``."""

    @property
    def accepted(self) -> D | None: ...

    def run(self, desired: D | None) -> Report[D] | None: ...


class Duty(Generic[D]):
    """The desired state at ``key``, of the type ``kind``. ``tell`` may raise SysregError."""

    def __init__(
        self, key: str, kind: type[D], reconciler: Reconciling[D], tell: Callable[[Report[D]], object]
    ) -> None:
        self._key = key
        self._kind = kind
        self._reconciler = reconciler
        self._tell = tell
        self._said = ""

    def look(self, view: Listing | None) -> bool:
        """Reconcile and report. Return whether this host is as desired and the store knows it.

        ``view`` is what the store says; None as long as it has not answered.
        """
        report = self._reconcile(view)
        if report is None:
            return True
        self._say(report)
        if view is None:
            return True
        try:
            self._tell(report)
        except SysregError as error:
            _log.debug("not reported: %s", error)
            return False
        return report.outcome is not Outcome.FAILED

    def _reconcile(self, view: Listing | None) -> Report[D] | None:
        accepted = self._reconciler.accepted
        if view is None:
            return self._reconciler.run(accepted)
        entry = view.entries.get(self._key)
        try:
            desired = decode(self._kind, entry.value, self._key) if entry else None
        except ProtocolError as error:
            report = self._reconciler.run(accepted)
            failure = Failure(Problem.DAMAGED, str(error))
            return replace(report, outcome=Outcome.FAILED, failure=failure, sight=Sight()) if report else None
        return self._reconciler.run(desired)

    def _say(self, report: Report[D]) -> None:
        """Log an outcome once."""
        text = f"{report.about.title}: {report.outcome}"
        if report.failure:
            text += f": {report.failure.reason}"
        if text != self._said:
            _log.log(logging.WARNING if report.failure else logging.INFO, "%s", text)
        self._said = text
