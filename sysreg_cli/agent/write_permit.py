"""A permit of the write lock, for what the agent changes in the registry beside a collection."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import closing

from sysreg_cli.errors import Unavailable
from sysreg_cli.settings import Settings
from sysreg_cli.tokens.write_lock import WriteLock

_given = 0
_counting = threading.Lock()


def permits_given() -> int:
    """Return how many permits this agent has given. What it read of the storage before may be old since."""
    return _given


@contextlib.contextmanager
def write_permit(settings: Settings) -> Iterator[WriteLock]:
    """Hold a permit: no collection begins to delete meanwhile, nor carries out a plan made before.

    Raises Unavailable while a collection holds the lock.
    """
    global _given
    with closing(WriteLock(settings.paths.state)) as write_lock:
        permit = write_lock.try_issue()
        if permit is None:
            raise Unavailable(
                "the registry takes no changes while a garbage collection runs", next_step="try again later"
            )
        with permit:
            with _counting:
                _given += 1
            yield write_lock
