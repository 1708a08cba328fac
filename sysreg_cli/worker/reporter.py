"""Tells the store what this host has done. A report that is there already is not written again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from sysreg_cli import __version__
from sysreg_cli.cluster import writing
from sysreg_cli.cluster.decision import Report
from sysreg_cli.cluster.keys import Part, host_key
from sysreg_cli.cluster.port import Entry, Store
from sysreg_cli.cluster.records import (
    AuthoritiesStatus,
    DesiredAuthorities,
    DesiredCertificate,
    HostStatus,
    decode,
    encode,
)
from sysreg_cli.errors import ProtocolError
from sysreg_cli.host import failpoint
from sysreg_cli.text import iso_time

_MAX_REASON = 1000


class Reporter:
    """Writes the key ``status`` of a host. Several threads may call it.

    ``clock`` returns seconds since the epoch.
    """

    def __init__(
        self, store: Store, host: str, boot_id: str, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._key = host_key(host, Part.STATUS)
        self._boot_id = boot_id
        self._clock = clock
        self._lock = threading.Lock()
        self._status: HostStatus | None = None
        self._authorities: AuthoritiesStatus | None = None

    def tell(self, report: Report[DesiredCertificate]) -> bool:
        """Write what ``report`` says, if the store says something else. Return whether it was written.

        Raises SysregError.
        """
        failure = report.failure
        with self._lock:
            self._status = HostStatus(
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
            return self._write(self._status)

    def tell_authorities(self, report: Report[DesiredAuthorities]) -> bool:
        """The same for CA certificates. It waits for the first report on the registry's certificate."""
        failure = report.failure
        with self._lock:
            self._authorities = AuthoritiesStatus(
                change=report.about.change,
                outcome=report.outcome,
                at=iso_time(self._clock()),
                problem=failure.problem if failure else "",
                reason=failure.reason[:_MAX_REASON] if failure else "",
            )
            return self._status is not None and self._write(self._status)

    def _write(self, status: HostStatus) -> bool:
        entry = self._store.get(self._key)
        before = _present(entry)
        merged = _merged(status, self._authorities, before)
        if merged == before:
            return False
        failpoint.reach("host report")
        writing.put(self._store, self._key, encode(merged, entry.value if entry else None), entry)
        return True


def _merged(
    status: HostStatus, authorities: AuthoritiesStatus | None, before: HostStatus | None
) -> HostStatus:
    """Return what to write. A part that says what it said ``before`` keeps its time."""
    if before is None:
        return replace(status, authorities=authorities)
    same_boot = before.boot_id == status.boot_id
    if replace(before, at=status.at, authorities=None) == status:
        status = replace(status, at=before.at)
    said = before.authorities
    if said and same_boot and (authorities is None or replace(said, at=authorities.at) == authorities):
        authorities = said
    return replace(status, authorities=authorities)


def _present(entry: Entry | None) -> HostStatus | None:
    try:
        return decode(HostStatus, entry.value, entry.key) if entry else None
    except ProtocolError:
        return None
