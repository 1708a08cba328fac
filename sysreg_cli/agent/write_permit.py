"""A permit of the write lock, for what the agent changes in the registry beside a collection."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import closing

from sysreg_cli.errors import Unavailable
from sysreg_cli.settings import Settings
from sysreg_cli.tokens.write_lock import WriteLock


@contextlib.contextmanager
def write_permit(settings: Settings) -> Iterator[WriteLock]:
    """Hold a permit: no collection begins to delete meanwhile.

    Raises Unavailable while a collection holds the lock.
    """
    with closing(WriteLock(settings.paths.state)) as write_lock:
        permit = write_lock.try_issue()
        if permit is None:
            raise Unavailable(
                "the registry takes no changes while a garbage collection runs", next_step="try again later"
            )
        with permit:
            yield write_lock
