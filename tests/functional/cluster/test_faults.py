"""Whatever happens to etcd or to connections, a follower misses nothing, and sees changes within 20 s."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

import pytest

from devstack.waiting import wait_until
from sysreg_cli.cluster.etcd import EtcdStore
from sysreg_cli.cluster.port import PREFIX, Expected, Put
from sysreg_cli.cluster.servers import Limits
from sysreg_cli.errors import Changed, OutcomeUnknown
from tests.etcd_cluster import LIMITS, EtcdCluster
from tests.functional.cluster.conftest import TOKEN_SECONDS
from tests.functional.cluster.numbered import SEEN_WITHIN, Numbered

_prefixes = (f"{PREFIX}fault{number}/" for number in itertools.count())


@contextmanager
def connections_cut(etcd: EtcdCluster, numbered: Numbered) -> Iterator[None]:
    etcd.cut()
    yield


@contextmanager
def packets_lost(etcd: EtcdCluster, numbered: Numbered) -> Iterator[None]:
    with etcd.losing_packets():
        yield


@contextmanager
def server_frozen(etcd: EtcdCluster, numbered: Numbered) -> Iterator[None]:
    etcd.signal(numbered.server, signal.SIGSTOP)
    try:
        yield
    finally:
        etcd.signal(numbered.server, signal.SIGCONT)


@contextmanager
def server_killed(etcd: EtcdCluster, numbered: Numbered) -> Iterator[None]:
    etcd.signal(numbered.server, signal.SIGKILL)
    yield
    etcd.start(numbered.server)


@contextmanager
def server_stopped(etcd: EtcdCluster, numbered: Numbered) -> Iterator[None]:
    etcd.signal(numbered.server, signal.SIGTERM)
    etcd.processes[numbered.server].wait(30)
    yield
    etcd.start(numbered.server)


@contextmanager
def all_killed(etcd: EtcdCluster, numbered: Numbered) -> Iterator[None]:
    for number in range(3):
        etcd.signal(number, signal.SIGKILL)
    wait_until(lambda: numbered.troubles, SEEN_WITHIN)
    for number in range(3):
        etcd.start(number)
    yield


@contextmanager
def quorum_lost(etcd: EtcdCluster, numbered: Numbered) -> Iterator[None]:
    for number in numbered.others:
        etcd.signal(number, signal.SIGKILL)
    wait_until(lambda: numbered.troubles, SEEN_WITHIN, what="the follower says that it is cut off")
    for number in numbered.others:
        etcd.start(number)
    yield


@contextmanager
def token_expired_and_cut(etcd: EtcdCluster, numbered: Numbered) -> Iterator[None]:
    """A watch goes on with an expired token, but the next one needs another."""
    time.sleep(TOKEN_SECONDS + 1.5)
    etcd.cut()
    yield


@contextmanager
def compacted_and_cut(etcd: EtcdCluster, numbered: Numbered) -> Iterator[None]:
    etcd.compact()
    etcd.cut()
    yield


#: the server of a fault is the one that the follower watches, and the leader
FAULTS = [
    connections_cut, packets_lost, server_frozen, server_killed, server_stopped, all_killed, quorum_lost,
    compacted_and_cut, token_expired_and_cut,
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_follower_misses_nothing(
    etcd: EtcdCluster, fault: Callable[[EtcdCluster, Numbered], AbstractContextManager[None]]
) -> None:
    with Numbered(etcd, next(_prefixes)).running() as numbered:
        with fault(etcd, numbered):
            numbered.wait_for_news()
        etcd.wait_ready()
        numbered.wait_for_news()
        numbered.finish()


def test_a_watch_ends_when_another_call_finds_its_server_silent(etcd: EtcdCluster) -> None:
    """By itself, this one would wait for ten minutes."""
    limits = Limits(call=1.0, silence=600.0)
    with (
        Numbered(etcd, next(_prefixes), limits=limits).running() as numbered,
        server_frozen(etcd, numbered),
    ):
        # the other servers elect a leader first
        wait_until(lambda: numbered.reader.get(next(iter(numbered.written))), SEEN_WITHIN)
        numbered.wait_for_news()
    assert any("the server is silent" in str(trouble) for trouble in numbered.troubles)


def _lose_an_answer(etcd: EtcdCluster) -> tuple[EtcdStore, str]:
    """Freeze the first server with a write on its way. Return the store of that write, and its key.

    On a busy machine a store may have gone over to another server before: then it is done again.
    """
    for _ in range(10):
        etcd.wait_ready()
        store, key = EtcdStore(etcd.access(), LIMITS), f"{next(_prefixes)}a"
        with suppress(OutcomeUnknown):
            store.transact([], [Put(key, b"1")])
            etcd.signal(0, signal.SIGSTOP)
            try:
                store.transact([], [Put(key, b"2")])
            except OutcomeUnknown:
                return store, key
        etcd.signal(0, signal.SIGCONT)
    raise AssertionError("no answer was lost")


def _is_changed(store: EtcdStore, key: str) -> bool:
    try:
        store.transact([Expected(key)], [Put(key, b"4")])
    except Changed:
        return True
    return False


def test_a_write_whose_answer_was_lost_goes_to_no_second_server(etcd: EtcdCluster) -> None:
    """It would overwrite what somebody else has written since."""
    try:
        store, key = _lose_an_answer(etcd)
        # the frozen server may have been the leader
        found = wait_until(lambda: store.get(key), SEEN_WITHIN)
        assert found is not None
        assert found.value == b"1"
        wait_until(lambda: store.transact([], [Put(key, b"3")]), SEEN_WITHIN)
    finally:
        etcd.signal(0, signal.SIGCONT)
    etcd.wait_ready()
    # the server does the held transaction only now, if it does it at all
    assert wait_until(lambda: _is_changed(store, key), SEEN_WITHIN)
