"""Remembers the manifests of the last reading, because operators ask several questions in a row.

To read and parse manifests takes a quarter of a reading. They use some 20 MB for 20,000 tags, so they are
forgotten after some minutes.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from sysreg_cli.agent.storage import layout
from sysreg_cli.agent.storage.readers import Readers, no_cycle_search
from sysreg_cli.agent.storage.snapshot import Known, Snapshot

_SECONDS = 300.0


class _Recent:
    """The manifests that the last reading knew. Several threads may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: Known = {}
        self._timer: threading.Timer | None = None

    def known(self) -> Known:
        with self._lock:
            return self._known

    def remember(self, known: Known) -> None:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._known = known
            self._timer = threading.Timer(_SECONDS, self._forget)
            self._timer.daemon = True
            self._timer.start()

    def _forget(self) -> None:
        with self._lock:
            self._known = {}


_recent = _Recent()


@contextlib.contextmanager
def reading(root: Path) -> Iterator[Snapshot]:
    """Yield what ``read_images`` reads, and remember its manifests.

    A manifest whose blob has the size and the time of the last reading is not read again. So this does not
    find content that was damaged since then by the disk. Raises OSError.
    """
    with no_cycle_search(), Readers() as readers:
        snapshot = read_images(root, _recent.known(), readers)
        yield snapshot
        _recent.remember(snapshot.known())


def read_images(root: Path, known: Known | None = None, readers: Readers | None = None) -> Snapshot:
    """Read the images of clients: all but the agent's own repositories. Raises OSError."""
    snapshot = Snapshot(root, known=known, readers=readers)
    for own in (layout.PIN_REPOSITORY, layout.TRIAL_REPOSITORY):
        snapshot.repositories.pop(own, None)
    return snapshot
