"""Names the uploads that the registry is receiving at this moment.

The registry's metrics count requests without saying whose they are. But the registry keeps the file of an
upload open while it receives content for it, and ``/proc`` shows which files a process has open. The first
component of the repository says who owns it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from sysreg_cli.agent.storage import layout
from sysreg_cli.host.ownership import as_owner
from sysreg_cli.text import printable

_MAX_NAMED = 5


def uploads_under_way(root: Path | None) -> str:
    """Return a text that names the uploads to the storage at ``root``, the oldest first.

    It is empty if there is none, if ``root`` is None, or if the registry's process can't be looked into.
    """
    if root is None:
        return ""
    named = []
    with contextlib.suppress(OSError), as_owner(root):
        now = time.time()
        begun = {path: _begun(path, now) for path in _open_files(layout.repositories(root.resolve()))}
        for path in sorted(begun, key=begun.__getitem__):
            repository = printable(str(path.parents[2].relative_to(layout.repositories(root.resolve()))))
            named.append(f"{repository} (for {now - begun[path]:.0f} s)")
    more = [f"{len(named) - _MAX_NAMED} more"] if len(named) > _MAX_NAMED else []
    return ", ".join(named[:_MAX_NAMED] + more)


def _open_files(repositories: Path) -> Iterator[Path]:
    """Yield each file ``<repository>/_uploads/<id>/data`` that a process of this user has open."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    path = descriptor.readlink()
                    if path.match("_uploads/*/data") and path.is_relative_to(repositories):
                        yield path


def _begun(path: Path, otherwise: float) -> float:
    """Return when an upload began, in seconds since the epoch."""
    try:
        return (path.parent / "startedat").stat().st_mtime
    except OSError:
        return otherwise
