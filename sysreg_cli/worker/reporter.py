"""Tells the store what this host has done. A report that is there already is not written again."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from sysreg_cli import __version__
from sysreg_cli.cluster import writing
from sysreg_cli.cluster.decision import Report
from sysreg_cli.cluster.keys import Part, host_key
from sysreg_cli.cluster.port import Entry, Store
from sysreg_cli.cluster.records import HostStatus, decode, encode
from sysreg_cli.errors import ProtocolError
from sysreg_cli.text import iso_time

_MAX_REASON = 1000


class Reporter:
    """Writes the key ``status`` of a host. ``clock`` returns seconds since the epoch."""

    def __init__(
        self, store: Store, host: str, boot_id: str, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._key = host_key(host, Part.STATUS)
        self._boot_id = boot_id
        self._clock = clock

    def tell(self, report: Report) -> bool:
        """Write what ``report`` says, if the store says something else. Return whether it was written.

        Raises SysregError.
        """
        before = self._store.get(self._key)
        status = self._status(report)
        if before is not None and _without_time(before) == dataclasses.replace(status, at=""):
            return False
        writing.put(self._store, self._key, encode(status, before.value if before else None), before)
        return True

    def _status(self, report: Report) -> HostStatus:
        failure = report.failure
        return HostStatus(
            change=report.about.change,
            phase=report.about.phase,
            outcome=report.outcome,
            at=iso_time(self._clock()),
            boot_id=self._boot_id,
            problem=failure.problem if failure else "",
            reason=failure.reason[:_MAX_REASON] if failure else "",
            docker=report.sight.docker,
            containerd=report.sight.containerd,
            version=__version__,
        )


def _without_time(entry: Entry) -> HostStatus | None:
    try:
        return dataclasses.replace(decode(HostStatus, entry.value, entry.key), at="")
    except ProtocolError:
        return None
