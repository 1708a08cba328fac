"""Which refusals get a line, and that none is lost from the sums."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from sysreg_cli.daemon.refusal_sums import RefusalSums


class Sums(list[tuple[str, dict[str, int]]]):
    def write(self, client: str, kinds: Mapping[str, int]) -> None:
        self.append((client, dict(kinds)))


def test_the_first_of_each_client_are_due_and_the_others_are_one_sum_when_the_time_is_over() -> None:
    sums = Sums()

    async def story() -> None:
        refusals = RefusalSums(sums.write, in_full=3, seconds=0.2)
        assert [refusals.is_due("a", "401") for _ in range(5)] == [True, True, True, False, False]
        assert not refusals.is_due("a", "400")
        assert refusals.is_due("b", "401")
        assert sums == []
        async with asyncio.timeout(10):
            while not sums:
                await asyncio.sleep(0.01)
        assert sums == [("a", {"401": 2, "400": 1})]
        assert refusals.is_due("a", "401")

    asyncio.run(story())


def test_the_memory_is_bounded_and_no_refusal_is_lost() -> None:
    sums = Sums()

    async def story() -> None:
        refusals = RefusalSums(sums.write, in_full=1)
        written = sum(refusals.is_due(f"{number}", "401") for number in range(10_000) for _ in range(2))
        refusals.flush()
        assert written + sum(kinds["401"] for _, kinds in sums) == 20_000
        assert written == 10_000

    asyncio.run(story())
    assert len(sums) == 10_000
