"""Works in the registry's storage with the rights of its owner instead of root's.

The storage belongs to the user of a daemon that serves the network. An attacker who controls that daemon
could plant symbolic links there, and root would follow them anywhere.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

_libc = ctypes.CDLL(None)
_INVALID_ID = ctypes.c_uint(-1)  # setfsuid(2) with it changes nothing and returns the present user


@contextlib.contextmanager
def as_owner(root: Path) -> Iterator[None]:
    """Access files with the rights of the owner of ``root``, in this thread only. Raises OSError.

    For a user other than root, setfsuid(2) also drops the capabilities that override modes and owners. New
    files belong to that user. Does nothing if this process is not root's, or if ``root`` belongs to root.
    """
    status = root.stat()
    if os.geteuid() != 0 or status.st_uid == 0:
        yield
        return
    try:
        # the group first: without root's user it can't be changed any more
        _libc.setfsgid(status.st_gid)
        _libc.setfsuid(status.st_uid)
        if _libc.setfsuid(_INVALID_ID) != status.st_uid:
            raise PermissionError(1, "the rights of its owner can't be taken", str(root))
        yield
    finally:
        _libc.setfsuid(0)
        _libc.setfsgid(0)
