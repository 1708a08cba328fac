"""Checks of the registry's storage, of its configuration, and of the write lock."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from sysreg_cli.errors import SysregError
from sysreg_cli.health.readings import Readings
from sysreg_cli.health.remedies import COLLECT, DEPLOY, make_room, remount
from sysreg_cli.health.results import Remedy, Result, Skipped, failed, ok, warning
from sysreg_cli.host import processes
from sysreg_cli.host.ownership import as_owner, require_rights
from sysreg_cli.host.registry_config import RegistryConfig
from sysreg_cli.tokens.write_lock import LOCK_NAME, WriteLock
from sysreg_cli.v1.collections import State

#: per cent of a file system
_LOW, _TOO_LOW = 10, 1
_IMAGES = "the images"
_GROUP = "sysreg-token"
_END_COLLECTION = Remedy("wait for its end, or end it", "system registry-garbage-collect --cancel")
_TOP = "docker/registry/v2"
# that override the settings of deletes and of the cache
_VARIABLES = tuple(f"REGISTRY_STORAGE_{setting}" for setting in ("DELETE", "MAINTENANCE", "CACHE"))
# where the registry writes, below the root directory; with each directory in the last two
_DIRECTORIES = ("", "docker", "docker/registry", _TOP, f"{_TOP}/blobs")
_OUTER = (f"{_TOP}/blobs/sha256", f"{_TOP}/repositories")


def storage(readings: Readings) -> Result:
    """The registry's user may write to its storage."""
    root = readings.storage_root()
    try:
        require_rights(root, _directories(root), _registry_user(readings))
        with as_owner(root):
            _try_write(root)
    except FileNotFoundError as error:
        return failed(f"{error.filename} is missing", DEPLOY)
    except OSError as error:
        if error.errno == errno.EROFS:
            return failed(f"{root} is mounted read-only", remount(root))
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return failed(f"{root}: {error.strerror}", COLLECT)
        return failed(f"{root}: {error.strerror}", Remedy("see why in the kernel's messages", "dmesg"))
    except SysregError as error:
        if os.statvfs(root).f_flag & os.ST_RDONLY:
            return failed(f"{root} is mounted read-only", remount(root))
        return failed(error.message, Remedy(error.next_step))
    return ok(f"{root} is writable for its owner")


def _directories(root: Path) -> Iterator[str]:
    """Yield outer directories: a restore that gives the storage to the wrong user does so to these, too."""
    yield from (str(root / name) for name in _DIRECTORIES)
    for outer in (root / name for name in _OUTER):
        yield str(outer)
        if outer.is_dir():
            with os.scandir(outer) as entries:
                yield from (entry.path for entry in entries if entry.is_dir(follow_symlinks=False))


def _registry_user(readings: Readings) -> str:
    """Return the name of the user as whom the registry runs, "" if it does not run."""
    unit = readings.settings.registry.unit
    for process in processes.listening(readings.registry_endpoint.address.port):
        with contextlib.suppress(KeyError):
            if process.unit in ("", unit):
                return pwd.getpwuid(process.uid).pw_name
    return ""


def _try_write(directory: Path) -> None:
    """Write a file without a name, which vanishes when it is closed. Raises OSError."""
    try:
        descriptor = os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR):  # a file system without such files
            return
        raise
    with os.fdopen(descriptor, "wb") as file:
        file.write(b"x")
        file.flush()
        os.fsync(descriptor)


def space(readings: Readings) -> Result:
    """There is room for images, and for the state of sysreg."""

    def room(path: Path) -> tuple[int, int, str]:
        disk = os.statvfs(path)
        return disk.f_bavail, disk.f_blocks, f"{disk.f_bavail * disk.f_frsize / 1e9:.1f} GB"

    return _room(readings, "bytes", room)


def inodes(readings: Readings) -> Result:
    """The file systems can hold more files."""

    def room(path: Path) -> tuple[int, int, str]:
        disk = os.statvfs(path)
        return disk.f_favail, disk.f_files, f"{disk.f_favail} inodes"

    return _room(readings, "inodes", room)


def _room(readings: Readings, what: str, room: Callable[[Path], tuple[int, int, str]]) -> Result:
    """Judge the room in the file systems of the storage and of the state: free, all, and free in words."""
    places = {"the state": readings.settings.paths.state}
    with contextlib.suppress(SysregError, Skipped):
        places = {_IMAGES: readings.storage_root(), **places}
    found: dict[str, list[str]] = {}
    least, remedy = 100.0, COLLECT
    for name, path in places.items():
        try:
            free, total, text = room(path)
        except OSError as error:
            raise Skipped(f"{path}: {error.strerror}") from None
        if total:  # some file systems make inodes as they need them
            share = 100 * free / total
            if share < least:  # on one file system with the images, a collection makes room for the state
                least, remedy = share, COLLECT if name == _IMAGES else make_room(path)
            found.setdefault(f"{text} ({share:.0f} %)", []).append(f"{name} ({path})")
    detail = "; ".join(f"{text} free for {' and '.join(names)}" for text, names in found.items())
    detail = detail or f"the file systems have no limit of {what}"
    if least < _LOW:
        return (failed if least < _TOO_LOW else warning)(detail, remedy)
    return ok(detail)


def writes(readings: Readings) -> Result:
    """Nobody holds the write lock, so pushes get their tokens."""
    readings.require_root("the write lock")
    path = readings.settings.paths.state / LOCK_NAME
    try:
        status = path.stat()
    except FileNotFoundError:
        return failed(f"the write lock {path} is missing", DEPLOY)
    if status.st_mode & 0o777 != 0o660 or _group(status.st_gid) != _GROUP:
        what = (
            f"the write lock {path} has the group {_group(status.st_gid)} and the mode"
            f" {stat.S_IMODE(status.st_mode):04o}, so the token server can't use it"
        )
        return failed(what, DEPLOY)
    with closing(WriteLock(readings.settings.paths.state)) as lock:
        if not lock.is_held():
            return ok("pushes get their tokens")
    return _held(readings, path)


def _held(readings: Readings, path: Path) -> Result:
    """Say who holds the write lock."""
    with contextlib.suppress(SysregError, Skipped):
        collections = readings.collections()
        if collections.state == State.RUNNING:
            what = f"a garbage collection holds pushes (phase {collections.phase})"
            return warning(what, _END_COLLECTION)
    holders = processes.locking(path)
    with closing(WriteLock(path.parent)) as lock:
        if not lock.is_held():  # a collection that has just ended
            return ok("pushes get their tokens")
    named = ", ".join(map(str, holders)) or "a process"
    remedy = Remedy("end it", f"kill {' '.join(str(it.pid) for it in holders)}")
    if not holders:
        remedy = Remedy("find it, and end it", f"fuser -v {path}")
    return failed(f"no push gets a token: {named} holds {path}, and no collection runs", remedy)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def deletes(readings: Readings) -> Result:
    """The registry takes deletes, and caches no blob descriptors."""
    config = readings.registry_config()
    if not config.deletes:
        what = f"the registry takes no deletes: see storage.delete and storage.maintenance in {config.path}"
        return failed(what, _without_variables(config))
    if config.cache:
        what = f"the registry caches blob descriptors ({config.cache}), so it loses pushes after a collection"
        return failed(what, _without_variables(config))
    return ok(f"the registry takes deletes, and caches no blob descriptors ({config.path})")


def _without_variables(config: RegistryConfig) -> Remedy:
    variables = [name for name in config.environment if name.upper().startswith(_VARIABLES)]
    if variables:
        return Remedy(f"take {', '.join(variables)} out of the environment of its unit, and restart it")
    return DEPLOY
