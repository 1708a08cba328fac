"""What a watch does that could stay silent, and what a restore from a backup looks like."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from devstack.waiting import wait_until
from sysreg_cli.cluster.etcd import EtcdStore
from sysreg_cli.cluster.follow import Follower
from sysreg_cli.cluster.port import EPOCH, PREFIX, Listing, Put
from sysreg_cli.errors import Compacted, SysregError, Unavailable
from tests.etcd_cluster import LIMITS, PATIENT, EtcdCluster
from tests.store_rules import read

HERE = f"{PREFIX}restore/"
KEY = f"{HERE}a"


def _end_of(store: EtcdStore, listing: Listing) -> str:
    """Return why a watch from this listing on ends. It may be that the server does not know the token yet."""
    with pytest.raises(Unavailable) as caught:
        read(store.watch(HERE, listing), 1)
    return str(caught.value)


def test_a_watch_on_forgotten_revisions_ends(etcd: EtcdCluster, root: EtcdStore) -> None:
    old = root.list(HERE)
    root.transact([], [Put(KEY, b"1")])
    root.transact([], [Put(KEY, b"2")])
    etcd.compact()
    with pytest.raises(Compacted):
        read(root.watch(HERE, old), 1)


def test_a_backlog_arrives_whole_and_in_order(root: EtcdStore) -> None:
    old = root.list(HERE)
    # etcd sends 1,000 changes at once
    with ThreadPoolExecutor(4) as threads:
        revisions = list(threads.map(lambda _: root.transact([], [Put(KEY, b"x")]), range(1100)))
    assert [change.revision for change in read(root.watch(HERE, old), 1100)] == sorted(revisions)


def test_values_that_are_too_large_are_refused(root: EtcdStore) -> None:
    with pytest.raises(SysregError, match="too large"):
        root.transact([], [Put(KEY, bytes(2_000_000))])


def test_a_store_that_went_back_is_noticed(etcd: EtcdCluster, root: EtcdStore) -> None:
    """Without a new token for the cluster, etcd says nothing: it has the same identity as before."""
    root.transact([], [Put(KEY, b"kept")])
    snapshot = etcd.directory / "snapshot"
    etcd.etcdctl("snapshot", "save", snapshot)
    for _ in range(20):
        root.transact([], [Put(KEY, b"lost")])
    store = EtcdStore(etcd.access(), LIMITS)
    before = store.list(HERE)
    etcd.restore(snapshot, etcd.token)
    assert wait_until(lambda: "went back" in _end_of(store, before), 30)
    assert store.list(HERE).identity == before.identity


def test_a_follower_shows_the_restored_state_and_that_it_is_another_store(
    etcd: EtcdCluster, root: EtcdStore
) -> None:
    root.transact([], [Put(KEY, b"kept"), Put(EPOCH, b"1")])
    snapshot = etcd.directory / "snapshot-2"
    etcd.etcdctl("snapshot", "save", snapshot)
    root.transact([], [Put(KEY, b"lost"), Put(f"{HERE}b", b"lost, too")])
    states: list[Listing] = []
    troubles: list[SysregError] = []
    follower = Follower(EtcdStore(etcd.access(), LIMITS), HERE, states.append, troubles.append)
    thread = threading.Thread(target=follower.run)
    thread.start()
    try:
        wait_until(lambda: states and states[-1].entries[KEY].value == b"lost")
        etcd.restore(snapshot, "second")
        wait_until(lambda: states[-1].entries[KEY].value == b"kept", 20, what=f"{troubles}")
        assert states[-1].entries.keys() == {KEY}
        assert states[-1].identity.cluster != states[0].identity.cluster
        # a client that logged in before has to find out that its token is worth nothing
        after = EtcdStore(etcd.access(), PATIENT)
        after.transact([], [Put(EPOCH, b"2"), Put(KEY, b"new")])
        wait_until(lambda: states[-1].entries[KEY].value == b"new", 20)
    finally:
        follower.stop()
        thread.join(60)
    assert after.list(HERE).identity.epoch == "2"
