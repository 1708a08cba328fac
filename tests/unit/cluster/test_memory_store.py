"""The store in memory keeps the rules of the port, so what is tested with it works with etcd."""

from collections.abc import Callable

import pytest

from sysreg_cli.cluster.port import PREFIX, Expected, Put, Store, User
from sysreg_cli.errors import Compacted, OutcomeUnknown, Unavailable
from tests.memory_store import MemoryCluster, MemoryStore
from tests.store_rules import StoreRules

KEY = f"{PREFIX}a"


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster()


@pytest.fixture
def root(cluster: MemoryCluster) -> MemoryStore:
    return cluster.administrator()


@pytest.fixture
def administration(root: MemoryStore) -> MemoryStore:
    return root


@pytest.fixture
def clients(cluster: MemoryCluster) -> Callable[[User], Store]:
    return cluster.client


class TestRules(StoreRules):
    """The rules of the port."""


def test_a_lease_ends_when_nobody_keeps_it(cluster: MemoryCluster, root: MemoryStore) -> None:
    lease = root.lease(15)
    root.transact([], [Put(KEY, b"alive", lease)])
    cluster.advance(14)
    root.keep(lease)
    cluster.advance(14)
    assert root.get(KEY)
    cluster.advance(1)
    assert root.get(KEY) is None


def test_a_watch_ends_with_the_fault(cluster: MemoryCluster, root: MemoryStore) -> None:
    old = root.list(PREFIX)
    root.transact([], [Put(KEY, b"1")])
    cluster.compact()
    with pytest.raises(Compacted):
        list(root.watch(PREFIX, old))
    watch = root.watch(PREFIX, root.list(PREFIX))
    cluster.cut()
    with pytest.raises(Unavailable):
        list(watch)


def test_a_restored_cluster_is_another_one(cluster: MemoryCluster, root: MemoryStore) -> None:
    before, snapshot = root.list(PREFIX), cluster.snapshot()
    root.transact([], [Put(KEY, b"lost")])
    cluster.restore(snapshot)
    after = root.list(PREFIX)
    assert after.entries == {}
    assert after.identity != before.identity


def test_a_transaction_is_done_although_its_answer_is_lost(cluster: MemoryCluster, root: MemoryStore) -> None:
    cluster.lose_answer()
    with pytest.raises(OutcomeUnknown):
        root.transact([Expected(KEY)], [Put(KEY, b"1")])
    assert root.get(KEY)


def test_a_store_that_is_down_answers_nothing(cluster: MemoryCluster, root: MemoryStore) -> None:
    cluster.down = True
    with pytest.raises(Unavailable):
        root.get(KEY)
