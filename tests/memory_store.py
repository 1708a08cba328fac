"""The store of a cluster in memory, for tests of what uses it. It has etcd's revisions, leases and rights.

A test ends leases with ``advance``, and makes faults with ``down``, ``cut``, ``compact``, ``restore`` and
``lose_answer``.
"""

from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sysreg_cli.cluster.port import (
    EPOCH,
    Change,
    Delete,
    Entry,
    Expected,
    Identity,
    Listing,
    Put,
    Rights,
    User,
)
from sysreg_cli.errors import (
    Changed,
    Compacted,
    NotAuthenticated,
    NotAuthorized,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)


@dataclass(slots=True)
class _State:
    """What a snapshot holds."""

    revision: int = 1
    compacted: int = 0
    entries: dict[str, Entry] = field(default_factory=dict)
    history: list[Change] = field(default_factory=list)


class MemoryCluster:
    """The one store that all clients of a test share."""

    #: seconds between two signs of life of a watch
    progress_seconds = 0.1

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.state = _State()
        self.cluster = "cluster-1"
        self.users: dict[str, tuple[str, Rights]] = {}
        self.leases: dict[int, tuple[int, float]] = {}
        self.lease_numbers = itertools.count(1000)
        self.now = 0.0
        self.down = False
        #: grows with each fault that ends the watches
        self.cuts = 0
        self.lost_answers = 0

    def administrator(self) -> MemoryStore:
        """Return a client that may do everything."""
        return MemoryStore(self, None)

    def client(self, user: User) -> MemoryStore:
        """Return a client with the rights of ``user``."""
        return MemoryStore(self, user)

    def advance(self, seconds: float) -> None:
        """Let time pass: leases end."""
        with self.changed:
            self.now += seconds
            for number, (_, until) in list(self.leases.items()):
                if until <= self.now:
                    self.end_lease(number)

    def end_lease(self, number: int) -> None:
        self.leases.pop(number, None)
        gone = [entry.key for entry in self.state.entries.values() if entry.lease == number]
        if gone:
            self.write([Delete(key) for key in gone])

    def cut(self) -> None:
        """End every watch, as a member that goes down does."""
        with self.changed:
            self.cuts += 1
            self.changed.notify_all()

    def compact(self) -> None:
        """Forget every change so far. A watch that has not read them yet ends with Compacted."""
        with self.changed:
            self.state.compacted = self.state.revision
            self.changed.notify_all()

    def snapshot(self) -> _State:
        with self.changed:
            return copy.deepcopy(self.state)

    def restore(self, snapshot: _State, cluster: str = "cluster-2") -> None:
        """Go back to ``snapshot``. The watches end."""
        with self.changed:
            self.state, self.cluster = copy.deepcopy(snapshot), cluster
            self.cuts += 1
            self.changed.notify_all()

    def lose_answer(self) -> None:
        """Do the next transaction, and raise OutcomeUnknown to its caller."""
        self.lost_answers += 1

    def write(self, writes: Sequence[Put | Delete]) -> int:
        with self.changed:
            state = self.state
            existing = [write for write in writes if isinstance(write, Put) or write.key in state.entries]
            state.revision += bool(existing)
            for write in existing:
                entry = None
                if isinstance(write, Put):
                    entry = Entry(write.key, write.value, state.revision, write.lease)
                    state.entries[write.key] = entry
                else:
                    del state.entries[write.key]
                state.history.append(Change(write.key, state.revision, entry))
            self.changed.notify_all()
            return state.revision


class MemoryStore:
    """A client of a MemoryCluster: a Store, and an Administration for who may be one."""

    def __init__(self, cluster: MemoryCluster, user: User | None) -> None:
        self.cluster = cluster
        self._user = user

    def get(self, key: str) -> Entry | None:
        with self.cluster.changed:
            self._check(reads=key)
            return self.cluster.state.entries.get(key)

    def list(self, prefix: str) -> Listing:
        with self.cluster.changed:
            self._check(reads=prefix)
            state = self.cluster.state
            epoch = state.entries.get(EPOCH)
            identity = Identity(self.cluster.cluster, epoch.value.decode() if epoch else "")
            found = {key: entry for key, entry in state.entries.items() if key.startswith(prefix)}
            return Listing(found, state.revision, identity)

    def transact(self, expected: Sequence[Expected], writes: Sequence[Put | Delete]) -> int:
        cluster = self.cluster
        with cluster.changed:
            for condition in expected:
                self._check(reads=condition.key)
            for write in writes:
                self._check(writes=write.key)
                if isinstance(write, Put) and write.lease and write.lease not in cluster.leases:
                    raise NotFound(f"lease {write.lease} has ended")
            for condition in expected:
                entry = cluster.state.entries.get(condition.key)
                if (entry.revision if entry else 0) != condition.revision:
                    raise Changed(f"{condition.key} was changed by somebody else")
            revision = cluster.write(writes)
            if cluster.lost_answers:
                cluster.lost_answers -= 1
                raise OutcomeUnknown("the answer was lost")
            return revision

    def watch(self, prefix: str, listing: Listing) -> MemoryWatch:
        with self.cluster.changed:
            self._check()
        return MemoryWatch(self.cluster, prefix, listing, allowed=self._may_read(prefix))

    def lease(self, seconds: int) -> int:
        with self.cluster.changed:
            self._check()
            number = next(self.cluster.lease_numbers)
            self.cluster.leases[number] = (seconds, self.cluster.now + seconds)
            return number

    def keep(self, lease: int) -> bool:
        with self.cluster.changed:
            self._check()
            if lease not in self.cluster.leases:
                return False
            seconds, _ = self.cluster.leases[lease]
            self.cluster.leases[lease] = (seconds, self.cluster.now + seconds)
            return True

    def revoke(self, lease: int) -> None:
        with self.cluster.changed:
            self._check()
            self.cluster.end_lease(lease)

    def put_user(self, user: User, rights: Rights) -> None:
        with self.cluster.changed:
            self._check_administrator()
            self.cluster.users[user.name] = (user.password, rights)

    def remove_user(self, name: str) -> None:
        with self.cluster.changed:
            self._check_administrator()
            self.cluster.users.pop(name, None)

    def user_revisions(self) -> Mapping[str, int]:
        return {}

    def _check_administrator(self) -> None:
        self._check()
        if self._user is not None:
            raise NotAuthorized(f"user {self._user.name} may not change users")

    def _check(self, *, reads: str = "", writes: str = "") -> None:
        """Raise what a client meets that calls now, and reads or writes this key."""
        if self.cluster.down:
            raise Unavailable("no server of the store answers")
        if self._user is None:
            return
        password, rights = self.cluster.users.get(self._user.name, (None, Rights()))
        if password != self._user.password:
            raise NotAuthenticated(f"the store refuses the password of {self._user.name}")
        if (reads and not self._may_read(reads)) or (writes and writes not in rights.writes):
            raise NotAuthorized(f"user {self._user.name} may not use {reads or writes}")

    def _may_read(self, key: str) -> bool:
        if self._user is None:
            return True
        _, rights = self.cluster.users.get(self._user.name, (None, Rights()))
        return key in (*rights.writes, EPOCH) or key.startswith(tuple(rights.reads))


class MemoryWatch:
    """A watch of a MemoryStore."""

    def __init__(self, cluster: MemoryCluster, prefix: str, listing: Listing, *, allowed: bool) -> None:
        self.cluster = cluster
        self._prefix = prefix
        self._revision = listing.revision
        self._cuts = cluster.cuts
        self._allowed = allowed
        self._closed = False

    def __iter__(self) -> Iterator[Sequence[Change]]:
        if not self._allowed:
            raise NotAuthorized(f"the user may not watch {self._prefix}")
        while True:
            with self.cluster.changed:
                self.cluster.changed.wait_for(self._is_due, self.cluster.progress_seconds)
                if self._closed:
                    return
                if self._cuts != self.cluster.cuts or self.cluster.down:
                    raise Unavailable("the watch was cut")
                state = self.cluster.state
                if state.revision > self._revision and self._revision < state.compacted:
                    raise Compacted(f"changes up to {state.compacted} are forgotten")
                found = [change for change in state.history if self._is_next(change)]
                self._revision = state.revision
            yield found

    def close(self) -> None:
        with self.cluster.changed:
            self._closed = True
            self.cluster.changed.notify_all()

    def _is_next(self, change: Change) -> bool:
        return change.revision > self._revision and change.key.startswith(self._prefix)

    def _is_due(self) -> bool:
        cluster = self.cluster
        return (
            self._closed
            or self._cuts != cluster.cuts
            or cluster.down
            or cluster.state.revision > self._revision
        )
