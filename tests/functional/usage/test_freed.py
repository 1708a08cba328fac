"""The figures of registry-usage, against the real registry, delete and collection."""

from __future__ import annotations

from tests.functional.conftest import NewController
from tests.fuzz.storage.freed import check_freed
from tests.fuzz.storage.trial import Fuzzer

STORAGES = 12


def test_what_is_unique_is_freed_to_the_byte(new_controller: NewController) -> None:
    with new_controller() as controller:
        fuzzer = Fuzzer(controller)
        problems = [problem for seed in range(STORAGES) for problem in check_freed(fuzzer, seed)]
    assert not problems, "\n".join(problems)
    assert fuzzer.outcomes["deleted"] >= STORAGES
