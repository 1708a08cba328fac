"""When this host looks at itself again: after a change, after a failure, and every few seconds."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from sysreg_cli.cluster.port import Listing

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds until the next look: if all is well, and at first and at most after a failure."""

    healthy: float = 10.0
    first_retry: float = 0.5
    max_retry: float = 10.0


class Loop:
    """Calls ``look`` again and again; see ``Duty.look``. Other threads call ``see`` and ``stop``."""

    def __init__(
        self,
        look: Callable[[Listing | None], bool],
        *,
        on_first_look: Callable[[], None] = lambda: None,
        pace: Pace = Pace(),
    ) -> None:
        self._look = look
        self._on_first_look = on_first_look
        self._pace = pace
        self._view: Listing | None = None
        self._wake = threading.Event()
        self._stopping = False

    def see(self, listing: Listing) -> None:
        """Take what the store says is desired."""
        self._view = listing
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
            view = self._view
            try:
                well = self._look(view)
            except Exception:
                _log.exception("this look failed")
                well = False
            if view is not None and not has_looked:
                has_looked = True
                self._on_first_look()
            retry = self._pace.first_retry if well else min(2 * retry, self._pace.max_retry)
            self._wake.wait(self._pace.healthy if well else retry)
