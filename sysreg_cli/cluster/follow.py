"""Follow what is below a prefix of the store, for as long as the process runs.

The loop lists, watches from there, and lists again after every end of the watch and once a minute. So a
change that a watch does not show is found by a list at the latest. No error ends the loop.

The consumer gets the whole state each time, never a single change: it makes what it keeps equal to that.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from sysreg_cli.cluster.port import Change, Entry, Identity, Listing, Store, Watch
from sysreg_cli.errors import Compacted, NotAuthenticated, NotAuthorized, SysregError

log = logging.getLogger("sysreg.cluster")


@dataclass(frozen=True, slots=True)
class Pace:
    """Times in seconds. The pauses double from ``first_pause`` on, and vary by half."""

    first_pause: float = 0.05
    longest_pause: float = 2.0
    #: if the store refuses the credentials: somebody has to do something first
    longest_after_refusal: float = 30.0
    list_every: float = 60.0


class Follower:
    """Follows one prefix. ``run`` is for a thread of its own, ``stop`` for any other."""

    def __init__(
        self,
        store: Store,
        prefix: str,
        apply: Callable[[Listing], None],
        trouble: Callable[[SysregError], None],
        pace: Pace | None = None,
    ) -> None:
        """``apply`` gets the state after every change and every list. If it raises, it gets the state again.

        ``trouble`` gets each error, before the pause that follows it. ``run`` calls both.
        """
        self._store = store
        self._prefix = prefix
        self._apply = apply
        self._trouble = trouble
        self._pace = pace or Pace()
        self._random = random.SystemRandom()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._watch: Watch | None = None
        self._entries: dict[str, Entry] = {}
        self._revision = 0
        self._identity = Identity("")
        self._pause = self._pace.first_pause

    def run(self) -> None:
        """Follow until ``stop``."""
        while not self._stopping.is_set():
            try:
                self._follow()
            except Exception as error:
                self._stopping.wait(self._after(error))

    def stop(self) -> None:
        """Let ``run`` return, whatever it waits for."""
        self._stopping.set()
        with self._lock:
            if self._watch is not None:
                self._watch.close()

    def _follow(self) -> None:
        """List and watch, until the watch ends or the follower is stopped."""
        watch = self._store.watch(self._prefix, self._list())
        with self._lock:
            self._watch = watch
        if self._stopping.is_set():
            return
        due = self._next_list()
        try:
            for changes in watch:
                # the server answers, so the next failure is a first one
                self._pause = self._pace.first_pause
                self._take(changes)
                if time.monotonic() >= due:
                    self._list()
                    due = self._next_list()
        finally:
            watch.close()

    def _list(self) -> Listing:
        listing = self._store.list(self._prefix)
        self._entries = dict(listing.entries)
        self._revision, self._identity = listing.revision, listing.identity
        self._show()
        return listing

    def _take(self, changes: Sequence[Change]) -> None:
        # a list may have been faster than the watch
        new = [change for change in changes if change.revision > self._revision]
        for change in new:
            if change.entry is None:
                self._entries.pop(change.key, None)
            else:
                self._entries[change.key] = change.entry
        if new:
            self._revision = new[-1].revision
            self._show()

    def _show(self) -> None:
        entries = MappingProxyType(dict(self._entries))
        self._apply(Listing(entries, self._revision, self._identity))

    def _next_list(self) -> float:
        return time.monotonic() + self._pace.list_every * self._random.uniform(0.75, 1.25)

    def _after(self, error: Exception) -> float:
        """Report an error, and return how long to wait."""
        if not isinstance(error, SysregError):
            log.exception("internal error while following %s", self._prefix)
            error = SysregError(f"internal error: {error}")
        try:
            self._trouble(error)
        except Exception:
            log.exception("internal error while following %s", self._prefix)
        refused = isinstance(error, (NotAuthenticated, NotAuthorized))
        longest = self._pace.longest_after_refusal if refused else self._pace.longest_pause
        pause, self._pause = self._pause, min(2 * self._pause, longest)
        if isinstance(error, Compacted) and pause == self._pace.first_pause:
            return 0
        return pause * self._random.uniform(0.5, 1.5)
