"""Threads for calls that block, which clients share fairly.

A call belongs to a client. Clients take turns, so one that asks for many calls delays its own, not those of
others. Only a few calls of one client run at the same time. Some threads are reserved for urgent calls.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Generic, TypeVar

from sysreg_cli.errors import Unavailable

_T = TypeVar("_T")


class Call(Generic[_T]):
    """A call that waits for a thread, runs, or has ended. Await ``result``."""

    def __init__(self, function: Callable[[], _T], *, urgent: bool) -> None:
        self.function = function
        self.urgent = urgent
        self.result: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        #: the clients in whose queues it waits
        self.clients: list[str] = []

    @property
    def waits(self) -> bool:
        """Whether it has not begun to run, and nobody dropped it."""
        return bool(self.clients)


class FairThreads:
    """Runs calls in threads. Only the event loop's thread may use it.

    Of one client, ``for_client`` calls run at the same time, and ``max_waiting`` others may wait. Urgent
    calls go first, without the limit for each client, and ``reserved`` threads are for them alone.
    ``max_calls`` limits how many calls wait, whoever asked.
    """

    def __init__(
        self,
        name: str,
        *,
        threads: int,
        reserved: int = 0,
        for_client: int,
        max_waiting: int = 32,
        max_calls: int = 1024,
    ) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._threads = threads
        self._common = threads - reserved
        self._for_client = for_client
        self._max_waiting = max_waiting
        self._max_calls = max_calls
        self._waiting = 0
        # for urgent and for other calls: those of each client that wait, oldest first. The next client is the
        # first one.
        self._queues: dict[bool, OrderedDict[str, list[Call[Any]]]] = {
            True: OrderedDict(),
            False: OrderedDict(),
        }
        self._running = 0
        # the calls of each client that run and are not urgent
        self._common_of: Counter[str] = Counter()

    def submit(self, function: Callable[[], _T], client: str, *, urgent: bool = False) -> Call[_T]:
        """Run ``function`` as soon as it is the turn of ``client``. Raises Unavailable if too many wait."""
        call = Call(function, urgent=urgent)
        if not self._add(call, client):
            raise Unavailable("too many logins are waiting for Keystone", next_step="try again in a while")
        return call

    def join(self, call: Call[_T], client: str) -> None:
        """Run ``call`` when it is the turn of ``client``, if that is earlier."""
        if call.waits and client not in call.clients:
            self._add(call, client)

    def drop(self, call: Call[_T]) -> bool:
        """Cancel ``call`` unless it runs or has ended. Return whether it was cancelled."""
        if not call.waits:
            return False
        self._leave_queues(call)
        call.result.cancel()
        return True

    def close(self) -> None:
        """Let no further call run, and do not wait for those that run."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _add(self, call: Call[Any], client: str) -> bool:
        """Put ``call`` into the queue of ``client``. Return False if too many wait."""
        queues = self._queues[call.urgent]
        if len(queues.get(client, ())) >= self._max_waiting or self._waiting >= self._max_calls:
            return False
        queues.setdefault(client, []).append(call)
        call.clients.append(client)
        self._waiting += 1
        self._start()
        return True

    def _leave_queues(self, call: Call[Any]) -> None:
        queues = self._queues[call.urgent]
        for client in call.clients:
            queues[client].remove(call)
            if not queues[client]:
                del queues[client]
        self._waiting -= len(call.clients)
        call.clients.clear()

    def _start(self) -> None:
        """Start the calls whose turn it is, as long as there are threads."""
        while self._running < self._threads and (found := self._next()):
            client, call = found
            self._leave_queues(call)
            self._running += 1
            if not call.urgent:
                self._common_of[client] += 1
            running = asyncio.get_running_loop().run_in_executor(self._executor, call.function)
            running.add_done_callback(partial(self._end, client, call))

    def _next(self) -> tuple[str, Call[Any]] | None:
        urgent, others = self._queues[True], self._queues[False]
        for client, queue in urgent.items():
            urgent.move_to_end(client)
            return client, queue[0]
        if self._common_of.total() < self._common:
            for client, queue in others.items():
                if self._common_of[client] < self._for_client:
                    others.move_to_end(client)
                    return client, queue[0]
        return None

    def _end(self, client: str, call: Call[Any], ended: asyncio.Future[Any]) -> None:
        self._running -= 1
        if not call.urgent:
            self._common_of[client] -= 1
            self._common_of += Counter()  # without those that have none
        if not call.result.done():
            if ended.cancelled():
                call.result.cancel()
            elif error := ended.exception():
                call.result.set_exception(error)
            else:
                call.result.set_result(ended.result())
        self._start()
