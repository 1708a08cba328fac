"""A write whose answer is lost is done once, and nobody else's is overwritten."""

from __future__ import annotations

import pytest

from sysreg_cli.cluster import writing
from sysreg_cli.cluster.port import PREFIX, Put
from sysreg_cli.errors import Changed, OutcomeUnknown
from tests.memory_store import MemoryCluster

KEY = f"{PREFIX}key"


def test_a_write_whose_answer_is_lost_is_done_once() -> None:
    cluster = MemoryCluster()
    store = cluster.administrator()
    cluster.lose_answer()
    writing.put(store, KEY, b"value", None)
    entry = store.get(KEY)
    assert entry
    assert entry.value == b"value"
    assert store.list(PREFIX).revision == entry.revision


def test_what_somebody_else_wrote_stays() -> None:
    cluster = MemoryCluster()
    store = cluster.administrator()
    store.transact([], [Put(KEY, b"theirs")])
    with pytest.raises(Changed):
        writing.put(store, KEY, b"ours", None)
    entry = store.get(KEY)
    assert entry
    assert entry.value == b"theirs"


def test_a_store_that_loses_every_answer_before_it_writes_is_reported() -> None:
    class Lost(type(MemoryCluster().administrator())):  # type: ignore[misc]
        def transact(self, *_arguments: object) -> int:
            raise OutcomeUnknown("the answer was lost")

    with pytest.raises(OutcomeUnknown):
        writing.put(Lost(MemoryCluster(), None), KEY, b"ours", None)
