"""Records the phase, progress and result of one collection, and ends it when it is cancelled or late."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from sysreg_cli.errors import SysregError
from sysreg_cli.host import failpoint
from sysreg_cli.v1.collections import CollectionOptions, CollectionResult, Outcome, Phase, now

# The share of a collection's time that each phase takes, for a progress bar.
_SHARES = {
    Phase.SCAN: 10,
    Phase.DRAIN: 15,
    Phase.MARK: 10,
    Phase.PIN: 1,
    Phase.UNTAG: 2,
    Phase.SWEEP: 50,
    Phase.CLEANUP: 2,
    Phase.RESTART: 2,
    Phase.VERIFY: 8,
}


class Cancelled(SysregError):
    """The collection was cancelled."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The phase of a collection, the part of the whole that is done (0 to 1), and what it waits for."""

    phase: Phase = Phase.SCAN
    fraction: float = 0.0
    detail: str = ""

    @classmethod
    def within(cls, phase: Phase, fraction: float = 0.0, detail: str = "") -> Progress:
        """Return the progress of a collection that has done ``fraction`` (0 to 1) of ``phase``."""
        phases = list(_SHARES)
        done = sum(_SHARES[earlier] for earlier in phases[: phases.index(phase)])
        done_now = min(fraction, 1.0) * _SHARES[phase]
        return cls(phase, round((done + done_now) / sum(_SHARES.values()), 4), detail)


class Recorder:
    """The record of one collection, which takes ``timeout`` seconds at most.

    ``on_change`` is called when a phase or the collector begins. ``result``, ``progress`` and ``cancelled``
    may be used from any thread.
    """

    def __init__(
        self,
        result: CollectionResult,
        timeout: float,
        *,
        on_change: Callable[[Recorder], None] = lambda recorder: None,
    ) -> None:
        self.result = result
        self.progress = Progress()
        self.cancelled = threading.Event()
        #: the process id of the registry's collector, 0 before it starts
        self.collector = 0
        self._on_change = on_change
        self._timeout = timeout
        self._begun = time.monotonic()

    @property
    def options(self) -> CollectionOptions:
        return self.result.options

    def update(self, **changes: Any) -> None:
        """Change fields of the result."""
        self.result = replace(self.result, **changes)

    def end(self, outcome: Outcome, error: str = "") -> CollectionResult:
        """Complete the result and return it."""
        duration = round(time.monotonic() - self._begun, 3)
        phase = "" if outcome is Outcome.DONE else self.progress.phase
        self.update(outcome=outcome, error=error, phase=phase, ended=now(), duration=duration)
        return self.result

    def show(self, phase: Phase, fraction: float, detail: str = "") -> None:
        """Show that ``fraction`` (0 to 1) of a phase is done."""
        self.progress = Progress.within(phase, fraction, detail)

    @contextlib.contextmanager
    def phase(self, phase: Phase, *, stoppable: bool = True) -> Iterator[None]:
        """Record what happens in the context as a phase. Raises as ``check``, unless it is not stoppable."""
        if stoppable:
            self.check()
        self.show(phase, 0.0)
        self._on_change(self)
        failpoint.reach(f"garbage {phase}")
        begun = time.monotonic()
        try:
            yield
        finally:
            spent = self.result.seconds.get(phase, 0.0) + time.monotonic() - begun
            self.update(seconds={**self.result.seconds, str(phase): round(spent, 3)})

    def check(self) -> None:
        """Raise Cancelled, or SysregError after the timeout."""
        if self.cancelled.is_set():
            raise Cancelled(f"the collection was cancelled in the phase {self.progress.phase}")
        if time.monotonic() > self._begun + self._timeout:
            raise SysregError(
                f"the collection did not end within {self._timeout:g} s, and was stopped in"
                f" {self.progress.phase}",
                next_step="run it again, or raise collect_timeout in section [agent] of sysreg.conf",
            )

    def pause(self, seconds: float) -> None:
        """Sleep for ``seconds``, or until the collection is cancelled. Raises as ``check``."""
        self.cancelled.wait(seconds)
        self.check()

    def collector_started(self, pid: int) -> None:
        self.collector = pid
        self._on_change(self)

    def count_hold(self, seconds: float) -> None:
        """Count one hold of the write lock."""
        self.update(
            holds=self.result.holds + 1,
            writes_held=round(self.result.writes_held + seconds, 3),
            longest_hold=max(self.result.longest_hold, round(seconds, 3)),
        )
