"""Publishes to the hosts what they are to have: one key of the store, whose changes are numbered.

The number of the last change is on the disk, too. So the agent notices a store that was restored from an
older state, and never gives a number twice.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Generic

from sysreg_cli.agent.hosts.fleet import Fleet
from sysreg_cli.cluster import writing
from sysreg_cli.cluster.port import Entry, Store
from sysreg_cli.cluster.records import ChangeId, D, HostStatus, decode, encode
from sysreg_cli.errors import ProtocolError
from sysreg_cli.host import failpoint, files

log = logging.getLogger("sysreg.agent")


@dataclass(frozen=True, slots=True)
class Present(Generic[D]):
    """What is published: the entry, and its value. None: there is none, or it makes no sense."""

    entry: Entry | None
    value: D | None


@dataclass(frozen=True, slots=True)
class _Given:
    """The last id that was given, and whether the store is known to have had it."""

    number: int
    id: str
    is_published: bool = True


class Need(Enum):
    """Whether something has to be published."""

    NOTHING = "nothing"
    WRITE = "write"
    DECISION = "decision"  # the store has gone back to an older state, so the operator decides


class Publication(Generic[D]):
    """The key ``key``, whose values are of the type ``kind``. The number is in the file ``record``.

    ``seen`` returns which change a host has seen last. The methods raise SysregError, OSError.
    """

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        key: str,
        kind: type[D],
        record: Path,
        seen: Callable[[HostStatus], ChangeId | None],
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._key = key
        self._kind = kind
        self._record = record
        self._seen = seen

    def present(self) -> Present[D]:
        """Return what is published."""
        entry = self._store.get(self._key)
        try:
            return Present(entry, decode(self._kind, entry.value, entry.key) if entry else None)
        except ProtocolError as error:
            log.warning("%s: it is replaced", error)
            return Present(entry, None)

    def next(self, present: Present[D]) -> ChangeId:
        """Return an id after each one that the store, this agent or a host has seen."""
        last, value = self._last(), present.value
        numbers = (last.number if last else 0, value.change.number if value else 0, self._highest_seen())
        return ChangeId(max(numbers) + 1, secrets.token_hex(8))

    def went_back(self, present: Present[D]) -> bool:
        """Whether the store was restored from a state before the last change."""
        last, value = self._last(), present.value
        if last is None or not last.is_published:
            return False
        return value is None or value.change.number < last.number

    def need(self, present: Present[D], *, is_right: bool, decided: bool) -> Need:
        """Return what to do. ``is_right``: what is published says the right thing.

        ``decided``: the operator has decided that what this controller has is to be published.
        """
        value, went_back = present.value, self.went_back(present)
        if value is not None and self._last() == _Given(
            value.change.number, value.change.id, is_published=False
        ):
            self._record_given(value.change, is_published=True)  # an answer was lost
        is_behind_hosts = decided and value is not None and value.change.number < self._highest_seen()
        if is_right and not went_back and not is_behind_hosts:
            return Need.NOTHING
        return Need.DECISION if went_back and not decided else Need.WRITE

    def write(self, desired: D, present: Present[D]) -> None:
        """Publish ``desired`` in the place of ``present``. Raises Changed if somebody else wrote since."""
        # before the store: a number that was given must not be given again
        self._record_given(desired.change, is_published=False)
        entry = present.entry
        failpoint.reach("publish")
        writing.put(self._store, self._key, encode(desired, entry.value if entry else None), entry)
        self._record_given(desired.change, is_published=True)
        log.info("%s is published to the hosts", desired.title)

    def _highest_seen(self) -> int:
        reports = (record.status for record in self._fleet.records() if record.status)
        return max((change.number for change in map(self._seen, reports) if change), default=0)

    def _record_given(self, change: ChangeId, *, is_published: bool) -> None:
        files.write(self._record, encode(_Given(change.number, change.id, is_published)), mode=0o600)

    def _last(self) -> _Given | None:
        """Return the id that was given last. A damaged record counts as none."""
        try:
            return decode(_Given, self._record.read_bytes(), str(self._record))
        except (OSError, ProtocolError):
            return None


class Republishing:
    """A thread that calls ``publish`` every ``seconds``, and after a failure every ``retry`` seconds.

    ``publish`` returns whether it is done. It gets True until it is done for the first time: whoever starts
    the agent wants that hosts have what this controller has.
    """

    def __init__(self, publish: Callable[[bool], bool], name: str, *, seconds: float, retry: float) -> None:
        self._publish = publish
        self._seconds = seconds
        self._retry = retry
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        decided = True
        while True:
            done = self._publish(decided)
            decided = decided and not done
            if self.stopping.wait(self._seconds if done else self._retry):
                return


class Said:
    """Logs a problem once, until it is over or another one comes."""

    def __init__(self) -> None:
        self._text = ""

    def say(self, text: str) -> None:
        if text and text != self._text:
            log.warning("%s", text)
        self._text = text
