"""Refused credentials in an SQLite database, so that the lockout guard remembers them after a restart.

No error here stops the token server. It logs a warning, and forgets refusals at its end.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

# SQLite's codes for a file that is damaged, or that has another layout. After any other error, such as a full
# disk, the file may be good.
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
_COLUMNS = "pair, name, refused_at, times"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal: fingerprint of the user's name, time of the latest one, how many there were."""

    name: bytes
    refused_at: float
    times: int


class RefusalStore:
    """The database at ``path``. A damaged one is replaced; its loss only costs Keystone some requests."""

    def __init__(self, path: Path) -> None:
        self._database = _open(path)

    def load(self, limit: int) -> list[tuple[bytes, Refusal]]:
        """Return fingerprints and refusals: the latest ``limit``, in the order of time."""
        rows = self._database.execute(
            f"SELECT {_COLUMNS} FROM refused ORDER BY refused_at DESC LIMIT ?",  # noqa: S608
            [limit],
        ).fetchall()
        return [(fingerprint, Refusal(*columns)) for fingerprint, *columns in reversed(rows)]

    def save(self, fingerprint: bytes, refusal: Refusal, *, dropped: Iterable[bytes] = ()) -> None:
        """Store a refusal, and remove those of the fingerprints in ``dropped``."""
        with self._transaction():
            self._database.executemany("DELETE FROM refused WHERE pair = ?", [[old] for old in dropped])
            self._database.execute(
                f"INSERT OR REPLACE INTO refused ({_COLUMNS}) VALUES (?, ?, ?, ?)",  # noqa: S608
                [fingerprint, refusal.name, refusal.refused_at, refusal.times],
            )

    def remove(self, fingerprints: Iterable[bytes]) -> None:
        """Remove the refusals of these credentials."""
        with self._transaction():
            self._database.executemany("DELETE FROM refused WHERE pair = ?", [[old] for old in fingerprints])

    def clear(self) -> None:
        """Remove all refusals."""
        with self._transaction():
            self._database.execute("DELETE FROM refused")

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with self._database:
                yield
        except sqlite3.Error as error:
            log.warning("refused logins can't be stored and won't survive a restart: %s", error)


def _open(path: Path) -> sqlite3.Connection:
    """Open the database at ``path``, or one in memory if the file can't be used."""
    try:
        try:
            return _connect(path)
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGE:
                raise
            log.warning("%s is damaged and made anew: %s", path, error)
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return _connect(path)
    except (sqlite3.Error, OSError) as error:
        log.warning("%s can't be used, refused logins won't survive a restart: %s", path, error)
    return _prepare(sqlite3.connect(":memory:"))


def _connect(path: Path) -> sqlite3.Connection:
    # SQLite gives its other files the mode of this one
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    return _prepare(sqlite3.connect(path))


def _prepare(database: sqlite3.Connection) -> sqlite3.Connection:
    """Create the table if it is missing, and check that it can be read. On an error close ``database``."""
    try:
        # without a sync at each commit: a power failure may cost the latest refusals, no more
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute(
            "CREATE TABLE IF NOT EXISTS refused"
            " (pair BLOB PRIMARY KEY, name BLOB NOT NULL, refused_at REAL NOT NULL, times INTEGER NOT NULL)"
        )
        database.execute(f"SELECT {_COLUMNS} FROM refused LIMIT 1").fetchall()  # noqa: S608
    except sqlite3.Error:
        database.close()
        raise
    return database
