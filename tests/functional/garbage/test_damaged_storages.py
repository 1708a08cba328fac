"""The short form of `python -m tests.fuzz.storage.run`: storages with random damage."""

from __future__ import annotations

from tests.functional.conftest import NewController
from tests.fuzz.storage.trial import Fuzzer

STORAGES = 12


def test_in_damaged_storages_what_pulls_is_deleted_and_stays_whole_and_the_remedies_mend_the_rest(
    new_controller: NewController,
) -> None:
    with new_controller() as controller:
        fuzzer = Fuzzer(controller)
        problems = [problem for seed in range(STORAGES) for problem in fuzzer.run(seed)]
    assert not problems, "\n".join(problems)
    assert fuzzer.outcomes["deleted"] >= STORAGES
    assert fuzzer.outcomes["collected"] >= STORAGES // 2
