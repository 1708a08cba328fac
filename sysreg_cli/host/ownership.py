"""Works in the registry's storage with the rights of its owner instead of root's.

The storage belongs to the user of a daemon that serves the network. An attacker who controls that daemon
could plant symbolic links there, and root would follow them anywhere.
"""

from __future__ import annotations

import contextlib
import ctypes
import grp
import os
import pwd
import shlex
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from sysreg_cli.errors import SysregError
from sysreg_cli.text import printable

_libc = ctypes.CDLL(None)
_INVALID_ID = ctypes.c_uint(-1)  # setfsuid(2) with it changes nothing and returns the present user


def leave_groups() -> None:
    """Leave the supplementary groups of root's shell, which would give ``as_owner`` more than the owner has.

    Call it before there are threads: it waits for each of them. Root needs no groups. Without the capability
    for it, nothing changes.
    """
    if os.geteuid() == 0 and os.getgroups():
        with contextlib.suppress(PermissionError):
            os.setgroups([])


@contextlib.contextmanager
def as_owner(root: Path) -> Iterator[None]:
    """Access files with the rights of the owner of ``root``, in this thread only.

    New files belong to that user. Does nothing if this process is not root's, or if ``root`` belongs to root.
    Raises SysregError, OSError.
    """
    status = root.stat()
    with as_user(status.st_uid, status.st_gid):
        yield


def present_rights() -> tuple[int, int]:
    """Return the user and the group with whose rights this thread accesses files."""
    return _libc.setfsuid(_INVALID_ID), _libc.setfsgid(_INVALID_ID)


@contextlib.contextmanager
def as_process() -> Iterator[None]:
    """Access files with the rights of the process again, within ``as_owner``."""
    user, group = present_rights()
    _libc.setfsuid(os.geteuid())
    _libc.setfsgid(os.getegid())
    try:
        yield
    finally:
        _libc.setfsgid(group)
        _libc.setfsuid(user)


@contextlib.contextmanager
def as_user(uid: int, gid: int) -> Iterator[None]:
    """Access files with the rights of a user, in this thread only. Needs a process of root, or does nothing.

    For others than root, setfsuid(2) also drops capabilities. The thread keeps the supplementary groups of
    the process: see ``leave_groups``. Raises SysregError.
    """
    if os.geteuid() != 0 or uid == 0:
        yield
        return
    try:
        _libc.setfsgid(gid)
        _libc.setfsuid(uid)
        if _libc.setfsuid(_INVALID_ID) != uid:
            raise SysregError(f"the rights of the user {_name(uid)} can't be taken")
        yield
    finally:
        _libc.setfsuid(0)
        _libc.setfsgid(0)


def require_rights(root: Path, directories: Iterable[str], user: str = "") -> None:
    """Require that ``user`` may list and change the directories below ``root``. Missing ones don't count.

    Without a name, it is the owner of ``root``. ``directories`` may read the storage itself: it is iterated
    with the rights of that user. Raises SysregError with the remedy, OSError.
    """
    status = root.stat()
    uid, gid = (status.st_uid, status.st_gid) if not user else pwd.getpwnam(user)[2:4]
    denied = None
    with as_user(uid, gid):
        try:
            denied = next((path for path in directories if not _may_change(path)), None)
        except PermissionError as error:
            denied = str(error.filename)
    if denied is not None:
        raise no_rights(root, denied, uid)


def no_rights(root: Path, path: str, uid: int | None = None) -> SysregError:
    """Return the error that a user, by default the owner of ``root``, may not read or change ``path``.

    It names the deepest directory on the path that exists, if ``path`` does not.
    """
    path = next((str(place) for place in (Path(path), *Path(path).parents) if os.path.lexists(place)), path)
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return SysregError(f"{printable(path)} is on a read-only file system", next_step="mount it writable")
    status = os.lstat(path)
    uid = root.stat().st_uid if uid is None else uid
    user, owner = _name(uid), _with_group(uid)
    mode = stat.S_IMODE(status.st_mode)
    # chown -R changes a symbolic link itself, and with -H it would follow those that an attacker has planted
    place = shlex.quote(str(root.resolve()))
    return SysregError(
        f"the user {user} may not read or change {printable(path)}: it belongs to {_name(status.st_uid)},"
        f" with mode {mode:04o}",
        next_step=f"give the storage back to that user: chown -R {owner} {place} && chmod -R u+rwX {place}",
    )


def _may_change(path: str) -> bool:
    # With effective ids, the kernel checks for the user of as_user.
    whole = os.R_OK | os.W_OK | os.X_OK
    return os.access(path, whole, effective_ids=True) or not os.path.lexists(path)


def _with_group(uid: int) -> str:
    """Return the user and its login group as chown(1) takes them."""
    try:
        return f"{pwd.getpwuid(uid).pw_name}:{grp.getgrgid(pwd.getpwuid(uid).pw_gid).gr_name}"
    except KeyError:
        return str(uid)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
