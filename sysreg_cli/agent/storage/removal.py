"""Removes tags from the storage and puts them back, and loses no push of such a tag at the same time.

To read the link of a tag and then remove it would lose a push that ends in between. So the directory of the
tag is first moved out of the registry's sight, in one step. A push that begins afterwards makes the tag anew.
A push that had begun may still write into the directory that was moved: the kernel tells by a lease whether
anybody has its link open for writing. If the link then names another digest, the tag is put back.

A tag that is put back is made there, too, and then takes its place in one step, which fails if there is such
a tag by then.

If the process is killed in between, the next removal in the repository completes what it had begun. Paths are
texts here, because there may be thousands of tags.
"""

# ruff: noqa: PTH102, PTH103, PTH104, PTH106, PTH114, PTH120, PTH208

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import signal
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sysreg_cli.agent.storage import layout
from sysreg_cli.agent.storage.files import read_file, remove_tree, written
from sysreg_cli.host import failpoint, files
from sysreg_cli.host.ownership import as_owner
from sysreg_cli.reference import is_digest
from sysreg_cli.registry.manifests import RemoteManifest

# Seconds. The registry has a link open for less than a millisecond.
WRITER_SECONDS = 5.0
_POLL = 0.002
_THREADS = 8

# ``_finish`` takes what is moved for that of a killed process.
_turn = threading.Lock()


def tag_digest(link: str) -> str:
    """Return the digest in the link of a tag, "" if the link is damaged or missing."""
    try:
        data = read_file(link)
    except OSError:  # a file that the registry may not read, either
        return ""
    text = (data or b"").decode("ascii", "replace")
    return text if is_digest(text) else ""


def remove_tags(
    root: Path, repository: str, tags: Mapping[str, str], pushed: Mapping[str, float] | None = None
) -> list[str]:
    """Remove each of ``tags`` (tag to digest) that stands for its digest, with its history. Return these.

    ``pushed`` maps tags to the time of their push, in seconds since the epoch: one that was pushed later,
    also with the same digest, stays. The caller has the rights of the owner of the storage. Raises OSError.
    """
    top = str(layout.repository(root, repository))
    latest = dict.fromkeys(tags, math.inf) | dict(pushed or {})
    with _turn:
        _finish(root, top)
        moved = {tag: digest for tag, digest in tags.items() if _move(top, tag, digest, latest[tag])}
        removed = [tag for tag, digest in moved.items() if _settle(top, tag, digest, latest[tag])]
        _empty(root, top)
        return removed


def add_tag(root: Path, repository: str, tag: str, digest: str) -> bool:
    """Make ``tag`` stand for ``digest``. Return False, and change nothing, if there is such a tag.

    The caller has the rights of the owner of the storage. Raises OSError.
    """
    top = str(layout.repository(root, repository))
    made = Path(_moved(top, tag, digest))
    with _turn:
        _finish(root, top)
        try:
            for link in (layout.TAG_LINK, layout.history_link(digest)):
                (made / link).parent.mkdir(parents=True, exist_ok=True)
                files.write(made / link, digest.encode(), mode=0o644)
            os.makedirs(os.path.dirname(f"{top}/{layout.tag(tag)}"), exist_ok=True)
            failpoint.reach("tag made")
            os.rename(made, f"{top}/{layout.tag(tag)}")
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return False
        finally:
            _empty(root, top)
    return True


def add_record(root: Path, repository: str, record: RemoteManifest) -> None:
    """Store the record of a removal as a delete leaves it: its blob, and a directory without a link.

    The caller has the rights of the owner of the storage. Raises OSError.
    """
    data = layout.data(root, record.digest)
    data.parent.mkdir(parents=True, exist_ok=True)
    data.write_bytes(record.content)
    layout.revision(root, repository, record.digest).parent.mkdir(parents=True, exist_ok=True)
    failpoint.reach("record written")


def remove_record(root: Path, repository: str, digest: str) -> None:
    """Remove what ``add_record`` stored. Raises OSError."""
    remove_tree(layout.revision(root, repository, digest).parent)
    remove_tree(layout.data(root, digest).parent)


def _finish(root: Path, top: str) -> None:
    """Complete the removals of a process that was killed."""
    for name in _names(top):
        tag, _, digest = name.partition("@")
        _settle(top, tag, digest)
    _empty(root, top)


def _names(top: str) -> list[str]:
    try:
        return os.listdir(f"{top}/{layout.REMOVED}")
    except (FileNotFoundError, NotADirectoryError):
        return []


def _moved(top: str, tag: str, digest: str) -> str:
    return f"{top}/{layout.REMOVED}/{tag}@{digest}"


def _move(top: str, tag: str, digest: str, pushed: float) -> bool:
    """Move a tag out of the registry's sight if it stands for ``digest`` and was not pushed later.

    Returns whether it did.
    """
    link = f"{top}/{layout.tag_link(tag)}"
    if tag_digest(link) != digest or written(link) > pushed:
        return False
    with contextlib.suppress(FileExistsError):
        os.mkdir(f"{top}/{layout.REMOVED}")
    moved = _moved(top, tag, digest)
    if os.path.lexists(moved):
        # What ``_empty`` could not remove: the error says why.
        remove_tree(Path(moved))
    try:
        os.rename(f"{top}/{layout.tag(tag)}", moved)
    except FileNotFoundError:
        return False
    failpoint.reach("tag moved")
    return True


def _settle(top: str, tag: str, digest: str, pushed: float = math.inf) -> bool:
    """Return whether a tag that was moved can be removed. If a push has changed it, put it back."""
    moved = _moved(top, tag, digest)
    link = f"{moved}/{layout.TAG_LINK}"
    # Without a link its removal has begun, because it had one when it was moved.
    if os.path.islink(moved) or not os.path.lexists(link):
        return True
    if _is_unwritten(link) and tag_digest(link) == digest and written(link) <= pushed:
        return True
    try:
        os.rename(moved, f"{top}/{layout.tag(tag)}")
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        # a later push has made the tag anew
    return False


def _empty(root: Path, top: str) -> None:
    """Remove what is left of the tags that were moved. What cannot be removed stays for the next time."""
    names = _names(top)

    def remove(start: int) -> None:
        with as_owner(root):
            for name in names[start::_THREADS]:
                with contextlib.suppress(OSError):
                    remove_tree(Path(top, layout.REMOVED, name))

    if names:
        # Several at once: a file system with a journal lets each removal of a directory wait.
        threads = min(_THREADS, len(names))
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(remove, range(threads)))
    with contextlib.suppress(OSError):
        os.rmdir(f"{top}/{layout.REMOVED}")


def _is_unwritten(link: str) -> bool:
    """Wait until nobody has the link open for writing. Returns whether that came about."""
    try:
        descriptor = os.open(link, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return True  # no link into which the registry could write
    try:
        deadline = time.monotonic() + WRITER_SECONDS
        while not _take_lease(descriptor):
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL)
        return True
    finally:
        os.close(descriptor)


def _take_lease(descriptor: int) -> bool:
    """Take a lease for reading, which the kernel gives only if nobody has the file open for writing."""
    try:
        # The signal about the end of a lease would kill the process. This one does nothing.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without leases, such as NFS, or no regular file
    return True
