"""Reads every blob of the storage, and compares its content with its digest.

A collection reads no layers, and the registry takes a blob as good because it is there. So only this finds
a layer that a disk has damaged, before a pull does.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

from sysreg_cli.agent.garbage import planning
from sysreg_cli.agent.storage import layout
from sysreg_cli.agent.storage.damage import Damage, Remedy
from sysreg_cli.agent.storage.files import UNREADABLE
from sysreg_cli.agent.storage.recent import read_images
from sysreg_cli.agent.storage.root import open_root
from sysreg_cli.agent.storage.snapshot import Snapshot
from sysreg_cli.errors import Conflict, SysregError
from sysreg_cli.host.idle import make_this_thread_idle
from sysreg_cli.settings import Settings
from sysreg_cli.v1.health import BlobReading

_BLOCK = 1024 * 1024
# So many blobs may be on bad sectors. If it is more, the storage itself is unreadable, and none is to go.
_MAX_UNREADABLE = 10
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
# to delete and collect what is damaged: a push would take it as good
_DELETE = (Remedy.DELETE_TAGS, Remedy.DELETE_MANIFEST)


class Stopped(SysregError):
    """The client has gone, or the agent stops."""


class BlobReader:
    """Reads the blobs, one reading at a time, in a thread that waits for everything else."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._turn = threading.Lock()
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End the reading, because the agent stops."""
        self._stopping.set()

    def start(self, is_wanted: Callable[[], bool]) -> Future[BlobReading]:
        """Start a reading, which ends when ``is_wanted`` is false.

        The result raises Stopped, NotSupported for a storage that cannot be read, SysregError. Raises
        Conflict while another reading is under way.
        """
        if not self._turn.acquire(blocking=False):
            raise Conflict("the blobs are being read already", next_step="wait for its end")
        future: Future[BlobReading] = Future()
        future.set_running_or_notify_cancel()

        def check() -> None:
            if self._stopping.is_set() or not is_wanted():
                raise Stopped("the reading of the blobs was ended")

        def run() -> None:
            try:
                make_this_thread_idle()
                found = _read(self._settings, check)
            except BaseException as error:
                self._turn.release()
                future.set_exception(error)
            else:
                self._turn.release()
                future.set_result(found)

        threading.Thread(target=run, name="blobs", daemon=True).start()
        return future


def _read(settings: Settings, check: Callable[[], None]) -> BlobReading:
    with open_root(settings) as root:
        began = time.time()
        snapshot = read_images(root)
        sizes = unreadable = 0
        for digest, blob in snapshot.blobs.items():
            check()
            try:
                if blob.size >= 0 and not _is_right(root, digest, check):
                    snapshot.corrupt.add(digest)
            except OSError as error:
                unreadable += 1
                if error.errno not in UNREADABLE or unreadable > _MAX_UNREADABLE:
                    raise
                snapshot.corrupt.add(digest)
            sizes += max(blob.size, 0)
        damages = list(_damages(snapshot, began, float(settings.agent.collect_grace)))
    images = {f"{it.repository}:{tag}" for it in damages if it.remedy in _DELETE for tag in it.tags}
    images |= {f"{it.repository}@{it.digest}" for it in damages if it.remedy is Remedy.DELETE_MANIFEST}
    return BlobReading(
        blobs=len(snapshot.blobs),
        bytes=sizes,
        damages=tuple(map(str, damages)),
        images=tuple(sorted(images)),
    )


def _damages(snapshot: Snapshot, now: float, grace: float) -> Iterator[Damage]:
    """Yield what is wrong in images, then the damaged blobs that none needs."""
    plan = planning.make(snapshot, now=now, grace=grace)
    yield from plan.damages
    for digest in sorted(snapshot.corrupt - plan.needed):
        yield Damage("", f"blob {digest} is damaged, and no tag needs it", Remedy.COLLECT)


def _is_right(root: Path, digest: str, check: Callable[[], None]) -> bool:
    """Whether a blob has the content of its digest. One that has just gone is right. Raises OSError."""
    content = hashlib.new(digest.partition(":")[0])
    try:
        descriptor = os.open(layout.data(root, digest), _READ)
    except FileNotFoundError:
        return True
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            check()
            content.update(block)
        # what clients pull stays in the memory of the machine
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return content.hexdigest() == digest.partition(":")[2]
