"""A follower knows the state of the store again after every fault."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from devstack.waiting import wait_until
from sysreg_cli.cluster.follow import Follower, Pace
from sysreg_cli.cluster.port import PREFIX, Delete, Listing, Put, Rights, Store, User
from sysreg_cli.errors import Compacted, NotAuthenticated, NotAuthorized, SysregError, Unavailable
from tests.memory_store import MemoryCluster, MemoryStore

QUICK = Pace(first_pause=0.01, longest_pause=0.05, longest_after_refusal=0.05)
KEY, OTHER = f"{PREFIX}desired/a", f"{PREFIX}desired/b"


class Consumer:
    """Keeps the last state that it got."""

    def __init__(self) -> None:
        self.state: Listing | None = None
        self.states = 0
        self.troubles: list[SysregError] = []
        self.failures = 0

    def apply(self, listing: Listing) -> None:
        self.states += 1
        if self.failures:
            self.failures -= 1
            raise ZeroDivisionError
        self.state = listing

    def knows(self, **values: bytes) -> bool:
        wanted = {f"{PREFIX}desired/{name}": value for name, value in values.items()}
        return self.state is not None and wanted == {
            key: entry.value for key, entry in self.state.entries.items()
        }

    @contextmanager
    def following(self, store: Store, pace: Pace = QUICK) -> Iterator[Consumer]:
        follower = Follower(store, f"{PREFIX}desired/", self.apply, self.troubles.append, pace)
        thread = threading.Thread(target=follower.run)
        thread.start()
        try:
            wait_until(lambda: self.states or self.troubles)
            yield self
        finally:
            follower.stop()
            thread.join(30)
            assert not thread.is_alive()


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster()


@pytest.fixture
def root(cluster: MemoryCluster) -> MemoryStore:
    return cluster.administrator()


@pytest.fixture
def consumer(root: MemoryStore) -> Iterator[Consumer]:
    root.transact([], [Put(KEY, b"0")])
    with Consumer().following(root) as consumer:
        yield consumer


def test_it_shows_writes_and_deletes(consumer: Consumer, root: MemoryStore) -> None:
    assert consumer.knows(a=b"0")
    revision = root.transact([], [Put(KEY, b"1"), Put(OTHER, b"2")])
    wait_until(lambda: consumer.knows(a=b"1", b=b"2"))
    assert consumer.state is not None
    assert consumer.state.revision == revision
    root.transact([], [Delete(KEY)])
    wait_until(lambda: consumer.knows(b=b"2"))


@pytest.mark.parametrize("fault", ["cut", "compact", "down", "restore"])
def test_it_knows_what_changed_during_a_fault(
    consumer: Consumer, cluster: MemoryCluster, root: MemoryStore, fault: str
) -> None:
    if fault == "restore":
        snapshot = cluster.snapshot()
        root.transact([], [Put(KEY, b"lost")])
        wait_until(lambda: consumer.knows(a=b"lost"))
        cluster.restore(snapshot)
        wait_until(lambda: consumer.knows(a=b"0"))
        assert consumer.state is not None
        assert consumer.state.identity.cluster == "cluster-2"
    elif fault == "down":
        cluster.down = True
        wait_until(lambda: len(consumer.troubles) > 2)
        cluster.write([Put(KEY, b"meanwhile")])
        cluster.down = False
        wait_until(lambda: consumer.knows(a=b"meanwhile"))
    else:
        getattr(cluster, fault)()
    root.transact([], [Put(KEY, b"1")])
    wait_until(lambda: consumer.knows(a=b"1"))


def test_it_lists_again_although_the_watch_shows_nothing(cluster: MemoryCluster, root: MemoryStore) -> None:
    with Consumer().following(root, Pace(list_every=0.1)) as consumer:
        wait_until(lambda: consumer.states > 3)
        assert not consumer.troubles


def test_a_consumer_that_fails_gets_the_state_again(consumer: Consumer, root: MemoryStore) -> None:
    consumer.failures = 2
    root.transact([], [Put(KEY, b"1")])
    wait_until(lambda: consumer.knows(a=b"1"))
    assert [str(error) for error in consumer.troubles] == ["internal error: "] * 2


@pytest.mark.parametrize(
    "error", [Unavailable("x"), Compacted("x"), ZeroDivisionError(), OSError("x"), KeyError()]
)
def test_no_error_ends_it(root: MemoryStore, error: Exception) -> None:
    class Failing(MemoryStore):
        failures = 3

        def list(self, prefix: str) -> Listing:
            Failing.failures -= 1
            if Failing.failures >= 0:
                raise error
            return super().list(prefix)

    with Consumer().following(Failing(root.cluster, None)) as consumer:
        wait_until(lambda: consumer.state is not None)
        assert len(consumer.troubles) == 3


def test_it_says_that_it_is_refused_and_tries_again(cluster: MemoryCluster, root: MemoryStore) -> None:
    user = User("host", "secret")
    with Consumer().following(cluster.client(user)) as consumer:
        wait_until(lambda: consumer.troubles)
        assert isinstance(consumer.troubles[0], NotAuthenticated)
        root.put_user(user, Rights())
        wait_until(lambda: isinstance(consumer.troubles[-1], NotAuthorized))
        root.put_user(user, Rights(reads=(f"{PREFIX}desired/",)))
        wait_until(lambda: consumer.knows())
