"""What the store holds of each host, and since when a host is gone."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from sysreg_cli.cluster.follow import Follower
from sysreg_cli.cluster.judgement import (
    HostJudgement,
    HostRecord,
    judge,
    judge_authorities,
    overall,
)
from sysreg_cli.cluster.keys import AUTHORITIES, CERTIFICATE, HOSTS, Part, parse_host_key
from sysreg_cli.cluster.port import Entry, Listing, Store
from sysreg_cli.cluster.records import (
    Alive,
    DesiredAuthorities,
    DesiredCertificate,
    HostSpec,
    HostStatus,
    decode,
)
from sysreg_cli.errors import ProtocolError, SysregError
from sysreg_cli.text import iso_time

log = logging.getLogger("sysreg.agent")

T = TypeVar("T")


class Fleet:
    """The hosts of the cluster. Its methods may be called from any thread.

    It follows the store only to learn when a host goes. ``clock`` returns seconds since the epoch.
    """

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._alive: set[str] = set()
        self._gone: dict[str, str] = {}
        self._problem = ""
        self._follower = Follower(store, HOSTS, self._see, self._tell)
        self._thread = threading.Thread(target=self._follower.run, name="fleet", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._follower.stop()
        self._thread.join()

    def records(self) -> list[HostRecord]:
        """Return what the store holds of each host that was added, by their names. Raises SysregError."""
        return _records(self._store.list(HOSTS).entries)

    def judgements(self) -> list[HostJudgement]:
        """Return how each host stands to the registry's certificate now. Raises SysregError."""
        desired, gone = self.desired(), dict(self._gone)
        return [judge(desired, record, gone) for record in self.records()]

    def authority_judgements(self) -> list[HostJudgement]:
        """Return how each host stands to the CA certificates now. Raises SysregError."""
        desired, gone = self.desired_authorities(), dict(self._gone)
        return [judge_authorities(desired, record, gone) for record in self.records()]

    def overall_judgements(self) -> list[HostJudgement]:
        """Return the state of each host for a list. Raises SysregError."""
        desired, authorities, gone = self.desired(), self.desired_authorities(), dict(self._gone)
        return [
            overall(judge(desired, record, gone), judge_authorities(authorities, record, gone))
            for record in self.records()
        ]

    def desired(self) -> DesiredCertificate | None:
        """Return what is published; None if it is nothing, or makes no sense. Raises SysregError."""
        return _value(DesiredCertificate, self._store.get(CERTIFICATE))

    def desired_authorities(self) -> DesiredAuthorities | None:
        """The same of the CA certificates. Raises SysregError."""
        return _value(DesiredAuthorities, self._store.get(AUTHORITIES))

    def _see(self, listing: Listing) -> None:
        self._problem = ""
        places = filter(None, map(parse_host_key, listing.entries))
        alive = {host for host, part in places if part is Part.ALIVE}
        now = iso_time(self._clock())
        for host in self._alive - alive:
            self._gone[host] = now
        for host in alive:
            self._gone.pop(host, None)
        self._alive = alive

    def _tell(self, error: SysregError) -> None:
        if str(error) != self._problem:
            self._problem = str(error)
            log.warning("the hosts are not followed: %s", error)


def _records(entries: Mapping[str, Entry]) -> list[HostRecord]:
    parts: dict[str, dict[Part, Entry]] = {}
    for key, entry in sorted(entries.items()):
        if place := parse_host_key(key):
            parts.setdefault(place[0], {})[place[1]] = entry
    records = []
    for host, found in parts.items():
        # a host that was deleted may leave its last report
        if spec := _value(HostSpec, found.get(Part.SPEC)):
            status, alive = found.get(Part.STATUS), found.get(Part.ALIVE)
            records.append(HostRecord(host, spec, _value(HostStatus, status), _value(Alive, alive)))
    return records


def _value(kind: type[T], entry: Entry | None) -> T | None:
    try:
        return decode(kind, entry.value, entry.key) if entry else None
    except ProtocolError as error:
        log.warning("%s", error)
        return None
