"""The store that the hosts of a cluster share, as the rest of sysreg sees it.

The store holds small values by key. It counts every change: the *revision* of the store is the number of the
last change, and that of an entry is the number of the change that wrote it. ``Store`` is the whole of what
sysreg asks for, so another program than etcd can take its place.

What a caller has to know:

- Every key here is a path below ``PREFIX``. A prefix that is listed or watched ends with ``/``.
- A transaction whose answer was lost may be done, or may be done later: ``OutcomeUnknown``. Read before
  you repeat it. Name in ``expected`` what you read, even if nobody else writes the key: then a transaction
  that was held up cannot overwrite a later one.
- A lease may live longer than its time, and a client that was cut off does not notice that its lease has
  ended. So a lease is a hint that somebody lives. It excludes nobody.
- Whoever may connect to etcd may read nothing, but may keep leases alive and make the store forget old
  revisions. So watches end with ``Compacted`` at any time, and nothing is safe only because a lease lives.
- A watch goes on after its user has lost the right to it. So nothing secret is stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

#: all keys are below this
PREFIX = "/sysreg/v1/"

#: A random word that is written anew after the store was restored from a backup. Every user may read it.
EPOCH = f"{PREFIX}epoch"


@dataclass(frozen=True, slots=True)
class Entry:
    """A value with its key, and the revision at which it was written. ``lease`` is 0 if it has none."""

    key: str
    value: bytes
    revision: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Identity:
    """Which store it is. It changes when the store was made anew or restored from a backup."""

    cluster: str
    epoch: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """All entries below a prefix at one revision of the store, by their keys."""

    entries: Mapping[str, Entry]
    revision: int
    identity: Identity


@dataclass(frozen=True, slots=True)
class Change:
    """An entry was written, or deleted (``entry`` is None), at ``revision``."""

    key: str
    revision: int
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class Expected:
    """The condition that the entry still has this revision. 0: that there is no such entry."""

    key: str
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Put:
    """Write a value. With ``lease``, the entry is deleted when that lease ends."""

    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete an entry, if it exists."""

    key: str


@dataclass(frozen=True, slots=True)
class Rights:
    """What a user may do: read every key below the prefixes ``reads``, and write exactly the keys ``writes``.

    The user may read the keys ``writes``, too, and EPOCH.
    """

    reads: Sequence[str] = ()
    writes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class User:
    """A user of the store. The password is random, and is in no text that anybody sees."""

    name: str
    password: str = field(repr=False)


class Watch(Protocol):
    """The changes below a prefix from one revision on, in order, each once.

    An iteration yields the changes that arrived together. An empty sequence is a sign of life: the store
    yields one at least every few seconds, so that a consumer has the chance to do other work. The iteration
    ends only after ``close``; each other end is an exception:

    - Compacted: the store has forgotten the revisions from which the watch should begin. List again.
    - NotAuthorized: the user may not read this prefix.
    - Unavailable: anything else: the connection broke, the server is silent, it has lost its quorum, or the
      store went back to an older state. List again.
    """

    def __iter__(self) -> Iterator[Sequence[Change]]: ...

    def close(self) -> None:
        """End the iteration, which may run in another thread. A second call does nothing."""


class Store(Protocol):
    """The store. Its methods may be called from any thread.

    Each method raises Unavailable if no server of the store gives an answer, NotAuthenticated if the store
    refuses the credentials, and NotAuthorized if the user may not use this key.
    """

    def get(self, key: str) -> Entry | None:
        """Return the entry, None if there is none. It is never older than the last finished transaction."""

    def list(self, prefix: str) -> Listing:
        """Return every entry below ``prefix``. It is never older than the last finished transaction."""

    def transact(self, expected: Sequence[Expected], writes: Sequence[Put | Delete]) -> int:
        """Do all ``writes`` at once if all of ``expected`` holds, and return the revision of the store.

        Raises Changed if something else is there than was expected; then nothing was written. Raises
        OutcomeUnknown if it may be done. Raises NotFound if a lease does not exist, and Unavailable for a
        store that is full.
        """

    def watch(self, prefix: str, listing: Listing) -> Watch:
        """Return the changes below ``prefix`` that come after ``listing``."""

    def lease(self, seconds: int) -> int:
        """Begin a lease that ends ``seconds`` after it was last kept. Return its number."""

    def keep(self, lease: int) -> bool:
        """Let the lease's time begin anew. Return False if it has ended."""

    def revoke(self, lease: int) -> None:
        """End the lease now, if it has not ended yet. Its entries are deleted."""


class Administration(Protocol):
    """The users of the store. Only its administrator may call this.

    Each method does what is left to do, so a call that failed half-way is repeated. It raises what the
    methods of Store raise.
    """

    def put_user(self, user: User, rights: Rights) -> None:
        """Make the user with exactly these rights. One that exists gets the password and the rights."""

    def remove_user(self, name: str) -> None:
        """Remove the user and the rights, if they exist. From then on the user's calls are refused.

        A watch that the user has open goes on.
        """

    def user_revisions(self) -> Mapping[str, int]:
        """Return the revision of the users on each server that answers, by its address.

        They are the same unless a server has lost a change. Empty if the store does not tell.
        """
