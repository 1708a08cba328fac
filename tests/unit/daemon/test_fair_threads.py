"""Whose call runs next, and what one client's calls cost the others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sysreg_cli.daemon.fair_threads import Call, FairThreads
from sysreg_cli.errors import Unavailable


class Room:
    """Notes who enters, and lets nobody out before ``leave``."""

    def __init__(self) -> None:
        self.entered: list[str] = []
        self._out = threading.Semaphore(0)

    def visitor(self, name: str) -> Callable[[], str]:
        def visit() -> str:
            self.entered.append(name)
            assert self._out.acquire(timeout=20)
            return name

        return visit

    def leave(self, number: int = 1) -> None:
        self._out.release(number)

    async def holds(self, *names: str) -> None:
        """Wait until these have entered, in any order, and nobody else."""
        async with asyncio.timeout(10):
            while sorted(self.entered) != sorted(names):
                assert len(self.entered) <= len(names)
                await asyncio.sleep(0.005)


@pytest.fixture
def room() -> Room:
    return Room()


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 30))


def test_a_client_with_many_calls_delays_its_own_and_others_take_turns(room: Room) -> None:
    async def story() -> None:
        threads = FairThreads("t", threads=3, for_client=2)
        calls = [threads.submit(room.visitor(f"a{number}"), "a") for number in range(6)]
        await room.holds("a0", "a1")
        calls.append(threads.submit(room.visitor("b0"), "b"))
        await room.holds("a0", "a1", "b0")
        calls += [threads.submit(room.visitor(f"b{number}"), "b") for number in range(1, 3)]
        room.leave(20)
        done = await asyncio.gather(*(call.result for call in calls))
        assert done == ["a0", "a1", "a2", "a3", "a4", "a5", "b0", "b1", "b2"]
        assert room.entered.index("b1") < room.entered.index("a4")
        threads.close()

    run(story())


def test_urgent_calls_have_threads_that_no_other_call_takes(room: Room) -> None:
    async def story() -> None:
        threads = FairThreads("t", threads=3, reserved=1, for_client=3)
        for number in range(5):
            threads.submit(room.visitor(f"a{number}"), "a")
        urgent = threads.submit(room.visitor("urgent"), "a", urgent=True)
        await room.holds("a0", "a1", "urgent")
        room.leave(10)
        assert await urgent.result == "urgent"
        threads.close()

    run(story())


def test_a_dropped_call_never_runs_and_a_running_one_cannot_be_dropped(room: Room) -> None:
    async def story() -> None:
        threads = FairThreads("t", threads=1, for_client=1, max_waiting=1)
        running = threads.submit(room.visitor("running"), "a")
        await room.holds("running")
        for _ in range(100):
            waiting = threads.submit(room.visitor("dropped"), "a")
            assert threads.drop(waiting)
            assert waiting.result.cancelled()
        assert not threads.drop(running)
        last = threads.submit(room.visitor("last"), "a")
        room.leave(2)
        assert (await running.result, await last.result) == ("running", "last")
        assert not threads.drop(last)
        assert room.entered == ["running", "last"]
        threads.close()

    run(story())


def test_a_call_that_a_second_client_waits_for_runs_when_it_is_the_turn_of_either(room: Room) -> None:
    async def story() -> None:
        threads = FairThreads("t", threads=2, for_client=1)
        calls: list[Call[str]] = [threads.submit(room.visitor(f"a{number}"), "a") for number in range(3)]
        await room.holds("a0")
        threads.join(calls[2], "b")
        await room.holds("a0", "a2")
        threads.join(calls[2], "c")
        room.leave(3)
        assert await asyncio.gather(*(call.result for call in calls)) == ["a0", "a1", "a2"]
        threads.close()

    run(story())


def test_too_many_calls_are_refused_for_each_client_and_in_total(room: Room) -> None:
    async def story() -> None:
        threads = FairThreads("t", threads=1, for_client=1, max_waiting=2, max_calls=3)
        calls = [threads.submit(room.visitor("a"), "a") for _ in range(3)]
        with pytest.raises(Unavailable, match="too many"):
            threads.submit(room.visitor("a"), "a")
        calls.append(threads.submit(room.visitor("b"), "b"))
        with pytest.raises(Unavailable, match="too many"):
            threads.submit(room.visitor("c"), "c")
        room.leave(10)
        await asyncio.gather(*(call.result for call in calls))
        room.leave()
        assert await threads.submit(room.visitor("c"), "c").result == "c"
        threads.close()

    run(story())


def test_what_a_call_raises_is_its_result_and_the_thread_goes_on(room: Room) -> None:
    async def story() -> None:
        threads = FairThreads("t", threads=1, for_client=1)
        broken = threads.submit(lambda: 1 // 0, "a")
        fine = threads.submit(lambda: 1, "a")
        with pytest.raises(ZeroDivisionError):
            await broken.result
        assert await fine.result == 1
        threads.close()

    run(story())
