"""What Keystone said about credentials, so that it isn't asked the same thing again and again.

Accepted pairs are kept in memory for a few minutes. Refused pairs are kept on disk: Keystone counts failed
logins without a time window, so a stale imagePullSecret that a kubelet tries every minute would lock its
account. Both are known here only by a hash with a key of this controller.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import os
import secrets
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from sysreg_cli.token_server.credentials import Credentials
from sysreg_cli.tokens.grants import Identity

log = logging.getLogger(__name__)

# Seconds after the first, the second and every further refusal before Keystone is asked again.
BACK_OFF = (600, 3600, 86400)
MOST_ACCEPTED = 10_000
MOST_REFUSED = 10_000
_KEY_SIZE = 32

Clock = Callable[[], float]


class Fingerprints:
    """Hashes with the key in ``<directory>/key``, which is made when there is none."""

    def __init__(self, directory: Path) -> None:
        self._key = _load_key(directory / "key")

    def of_pair(self, credentials: Credentials) -> bytes:
        """The lengths are part of the hash, so that no two pairs read the same."""
        name = credentials.name.encode("utf-8", "surrogatepass")
        secret = credentials.secret.encode("utf-8", "surrogatepass")
        prefix = f"{credentials.kind} {len(name)} ".encode()
        return hmac.digest(self._key, prefix + name + secret, "sha256")

    def of_name(self, name: str) -> bytes:
        """Of a user name in any case: Keystone on MySQL takes them for the same user."""
        folded = name.casefold().encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, b"name " + folded, "sha256")


class AcceptedPairs:
    """Identities of pairs that Keystone accepted, for at most ``ttl`` seconds."""

    def __init__(self, ttl: float, clock: Clock = time.monotonic) -> None:
        self._ttl = ttl
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[Identity, float]] = OrderedDict()

    def get(self, pair: bytes) -> Identity | None:
        entry = self._entries.get(pair)
        if entry is None:
            return None
        identity, ends = entry
        if self._clock() >= ends:
            del self._entries[pair]
            return None
        return identity

    def add(self, pair: bytes, identity: Identity, lifetime: float) -> None:
        """Keep for ``lifetime`` seconds (what Keystone's answer is good for), or the ttl if that is less."""
        ends = min(self._ttl, lifetime)
        if ends <= 0:
            return
        self._entries[pair] = identity, self._clock() + ends
        self._entries.move_to_end(pair)
        while len(self._entries) > MOST_ACCEPTED:
            self._entries.popitem(last=False)

    def __len__(self) -> int:
        return len(self._entries)


@dataclass(slots=True)
class _Refusal:
    name: bytes
    refused_at: float
    times: int

    @property
    def ends(self) -> float:
        return self.refused_at + BACK_OFF[min(self.times, len(BACK_OFF)) - 1]


class RefusedPairs:
    """Pairs that Keystone refused, in ``<directory>/refused.db``; the times are seconds of the wall clock.

    A disk that can't be written makes it forgetful over a restart, not wrong: the memory decides.
    """

    def __init__(self, directory: Path, clock: Clock = time.time) -> None:
        self._clock = clock
        self._entries: OrderedDict[bytes, _Refusal] = OrderedDict()
        self._database = _open_database(directory / "refused.db")
        rows = self._database.execute(
            "SELECT pair, name, refused_at, times FROM refused ORDER BY refused_at DESC LIMIT ?",
            [MOST_REFUSED],
        )
        for pair, name, refused_at, times in reversed(rows.fetchall()):
            self._entries[pair] = _Refusal(name, refused_at, times)

    def seconds_left(self, pair: bytes) -> float:
        """For how long the pair must not be asked of Keystone; 0 if it may."""
        entry = self._entries.get(pair)
        if entry is None:
            return 0.0
        now = self._clock()
        # The clock was set back: count from now, not from a time to come.
        entry.refused_at = min(entry.refused_at, now)
        return max(0.0, entry.ends - now)

    def add(self, pair: bytes, name: bytes) -> float:
        """Keystone refused the pair, perhaps again; returns the seconds until it may be asked again."""
        known = self._entries.pop(pair, None)
        times = known.times + 1 if known else 1
        entry = _Refusal(name, self._clock(), min(times, len(BACK_OFF)))
        self._entries[pair] = entry
        dropped = []
        while len(self._entries) > MOST_REFUSED:
            dropped.append(self._entries.popitem(last=False)[0])
        with self._stored():
            self._database.executemany("DELETE FROM refused WHERE pair = ?", [[old] for old in dropped])
            self._database.execute(
                "INSERT OR REPLACE INTO refused VALUES (?, ?, ?, ?)",
                [pair, entry.name, entry.refused_at, entry.times],
            )
        return entry.ends - entry.refused_at

    def forget_names(self, names: Collection[bytes]) -> None:
        """A user logged in, so Keystone's counter is back at zero: forget all that was refused of them."""
        pairs = [pair for pair, entry in self._entries.items() if entry.name in names]
        if not pairs:
            return
        for pair in pairs:
            del self._entries[pair]
        with self._stored():
            self._database.executemany("DELETE FROM refused WHERE pair = ?", [[pair] for pair in pairs])

    def clear(self) -> None:
        self._entries.clear()
        with self._stored():
            self._database.execute("DELETE FROM refused")

    def close(self) -> None:
        self._database.close()

    def __len__(self) -> int:
        return len(self._entries)

    @contextlib.contextmanager
    def _stored(self) -> Iterator[None]:
        try:
            with self._database:
                yield
        except sqlite3.Error as error:
            log.warning("refused logins can't be stored and won't survive a restart: %s", error)


def _open_database(path: Path) -> sqlite3.Connection:
    """The database at ``path``, made anew if it is none: what it held was only a kindness to Keystone.

    One in memory if the disk is full, or can't be used otherwise: tokens are served all the same.
    """
    try:
        try:
            return _connect(path)
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            log.warning("%s is damaged and made anew: %s", path, error)
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return _connect(path)
    except (sqlite3.Error, OSError) as error:
        log.warning("%s can't be used, refused logins won't survive a restart: %s", path, error)
    return _prepare(sqlite3.connect(":memory:"))


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether the file itself is bad, or of another layout; a full disk or a lock is no reason to drop it."""
    if not isinstance(error, sqlite3.OperationalError):
        return True
    return any(words in str(error) for words in ("malformed", "not a database", "no such column"))


def _connect(path: Path) -> sqlite3.Connection:
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    return _prepare(sqlite3.connect(path))


def _prepare(database: sqlite3.Connection) -> sqlite3.Connection:
    """``database`` with its table; closed if it has none and takes none."""
    try:
        # Without a sync at every commit: after a power failure the latest refusals may be gone, no more.
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute(
            "CREATE TABLE IF NOT EXISTS refused"
            " (pair BLOB PRIMARY KEY, name BLOB NOT NULL, refused_at REAL NOT NULL, times INTEGER NOT NULL)"
        )
        database.execute("SELECT pair, name, refused_at, times FROM refused LIMIT 1").fetchall()
    except sqlite3.Error:
        database.close()
        raise
    return database


def _load_key(path: Path) -> bytes:
    """The key in ``path``; a new one if the file is missing or too short to be one."""
    with contextlib.suppress(FileNotFoundError):
        key = path.read_bytes()
        if len(key) == _KEY_SIZE:
            return key
    key = secrets.token_bytes(_KEY_SIZE)
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)
    os.replace(fresh, path)
    return key
