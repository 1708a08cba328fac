"""Working in the registry's storage with the rights of the registry, not of root.

The storage belongs to the user of a daemon that talks to the network. Whoever took that daemon over could
plant symbolic links there, and root would follow them to anywhere.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

_libc = ctypes.CDLL(None)
_NOBODY_ASKED = ctypes.c_uint(-1)  # an id that can't be set: the answer is the present one


@contextlib.contextmanager
def as_owner(root: Path) -> Iterator[None]:
    """Reach files with the rights of the owner of ``root``; this thread only (setfsuid(2)).

    With a user that isn't root, the kernel also takes away the capabilities that override modes and owners;
    what is created belongs to that user. Changes nothing where we aren't root, or ``root`` is root's. Raises
    OSError.
    """
    status = root.stat()
    if os.geteuid() != 0 or status.st_uid == 0:
        yield
        return
    try:
        # the group first: without root's user it could not be changed any more
        _libc.setfsgid(status.st_gid)
        _libc.setfsuid(status.st_uid)
        if _libc.setfsuid(_NOBODY_ASKED) != status.st_uid:
            raise PermissionError(1, "its owner's rights cannot be taken", str(root))
        yield
    finally:
        _libc.setfsuid(0)
        _libc.setfsgid(0)
