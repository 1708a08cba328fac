"""The lockout guard: it keeps refused credentials away from Keystone.

Keystone counts failed logins without a time window. A stale imagePullSecret that a kubelet tries every minute
would lock its account. The guard's SQLite database survives a restart. If the file can't be used, the guard
goes on in memory until the next ``clear()`` or restart, because tokens must be served all the same.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

# Seconds after the first, the second and every further refusal before Keystone is asked again.
_BACK_OFF = (600, 3600, 86400)
# SQLite's codes for a file that is damaged or has another layout. A full disk, for example, has another code.
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
# Without a sync at each commit: a power failure may cost the latest refusals, no more.
_PREPARE = """
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    CREATE TABLE IF NOT EXISTS refused
        (pair BLOB PRIMARY KEY, name BLOB NOT NULL, refused_at REAL NOT NULL, times INTEGER NOT NULL);
"""
# Separate, because a database of 0.1.0 lacks it
_ADD_CLIENT = "ALTER TABLE refused ADD COLUMN client BLOB NOT NULL DEFAULT ''"
_ADD_INDEX = "CREATE INDEX IF NOT EXISTS refused_by_client ON refused (client, times, refused_at)"
_ADD = """
    INSERT INTO refused (pair, name, client, refused_at, times) VALUES (?, ?, ?, ?, 1)
    ON CONFLICT (pair) DO UPDATE SET refused_at = excluded.refused_at, times = times + 1
    RETURNING times
"""
_COPY_OUT = "SELECT pair, name, client, refused_at, times FROM refused"
_COPY_IN = "INSERT INTO refused (pair, name, client, refused_at, times) VALUES (?, ?, ?, ?, ?)"
# Of the client that has the most, so that one client that sends many wrong pairs forgets only its own
_DROP_ONE = """
    DELETE FROM refused WHERE pair = (
        SELECT pair FROM refused
        WHERE client = (
            SELECT client FROM refused GROUP BY client ORDER BY count(*) DESC, min(refused_at) LIMIT 1)
        ORDER BY times, refused_at LIMIT 1)
"""


class LockoutGuard:
    """The refusals of credentials, by fingerprint (column ``pair``). Times are seconds of the wall clock.

    When there are more than ``max_entries``, it forgets one of the client that has the most: the oldest of
    those that were refused the fewest times. So a client that sends many wrong pairs makes it forget its own.
    """

    def __init__(
        self, path: Path, *, max_entries: int = 10_000, clock: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._max_entries = max_entries
        self._clock = clock
        self._database = _open(path)

    def seconds_left(self, fingerprint: bytes) -> float:
        """Return for how many seconds Keystone must not be asked about the credentials; 0 if it may."""
        rows = self._run("SELECT refused_at, times FROM refused WHERE pair = ?", fingerprint)
        if not rows:
            return 0.0
        refused_at: float
        refused_at, times = rows[0]
        now = self._clock()
        if now < refused_at:
            # the clock was set back: the time counts from now
            self._run("UPDATE refused SET refused_at = ? WHERE pair = ?", now, fingerprint)
        return max(0.0, min(refused_at, now) + _pause(times) - now)

    def add(self, fingerprint: bytes, name: bytes, client: bytes = b"") -> float:
        """Record a refusal of ``name``. Return the seconds until Keystone may be asked again.

        ``client`` stands for the network that the pair came from.
        """
        ((times,),) = self._run(_ADD, fingerprint, name, client, self._clock())
        while len(self) > self._max_entries:
            self._run(_DROP_ONE)
        return _pause(times)

    def forget_names(self, names: Iterable[bytes]) -> None:
        """Forget the refusals of users who logged in, which set Keystone's counter back to zero."""
        for name in names:
            self._run("DELETE FROM refused WHERE name = ?", name)

    def clear(self) -> None:
        """Forget all refusals, and use the file again if it failed before."""
        self.close()
        self._database = _open(self._path)
        self._run("DELETE FROM refused")

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def __len__(self) -> int:
        ((number,),) = self._run("SELECT count(*) FROM refused")
        return int(number)

    def _run(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Execute ``statement`` and return its rows. If the file fails, continue in memory."""
        try:
            with self._database as database:
                return database.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            log.warning("refused logins can't be stored and won't survive a restart: %s", error)
        failed, self._database = self._database, _prepare(":memory:")
        with contextlib.suppress(sqlite3.Error), contextlib.closing(failed):
            self._database.executemany(_COPY_IN, failed.execute(_COPY_OUT).fetchall())
        return self._database.execute(statement, values).fetchall()


def _pause(times: int) -> float:
    return float(_BACK_OFF[min(times, len(_BACK_OFF)) - 1])


def _open(path: Path) -> sqlite3.Connection:
    """Open the database. Replace a damaged file: its loss only costs Keystone some requests."""
    try:
        try:
            return _create(path)
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGE:
                raise
            log.warning("%s is damaged and made anew: %s", path, error)
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return _create(path)
    except (sqlite3.Error, OSError) as error:
        log.warning("%s can't be used, refused logins won't survive a restart: %s", path, error)
    return _prepare(":memory:")


def _create(path: Path) -> sqlite3.Connection:
    # SQLite gives its other files the mode of this one
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    return _prepare(path)


def _prepare(path: Path | str) -> sqlite3.Connection:
    database = sqlite3.connect(path)
    try:
        database.executescript(_PREPARE)
        columns = [row[1] for row in database.execute("PRAGMA table_info(refused)")]
        if "client" not in columns:
            database.execute(_ADD_CLIENT)
        database.execute(_ADD_INDEX)
    except sqlite3.Error:
        database.close()
        raise
    return database
