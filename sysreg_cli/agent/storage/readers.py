"""Shares the reading of a large storage between this process and a second one.

Most of a reading is the work of Python on small files, and one process of Python uses one processor. So a
second process halves its time. It only reads: what it finds comes back through a socket. If it cannot start,
is late, dies or has another version, this process reads all by itself, and nothing else changes.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from sysreg_cli import __version__
from sysreg_cli.agent.storage.files import go_on
from sysreg_cli.host.ownership import as_process, present_rights

Check = Callable[[], None]
Item = TypeVar("Item")
Found = TypeVar("Found")

#: parts that the second process has got: so the next one is there when it has done one
_AHEAD = 2
_PARTS = 64
# seconds between two checks while only the second process works
_POLL = 0.1
_END = 1.0


class Readers:
    """One process that reads, or two. The second one lives in a ``with`` statement only.

    An object belongs to one thread. ``check`` is called before each file that this process reads and often
    while it waits for the other one, and ends the reading by raising.
    """

    def __init__(self, check: Check = go_on) -> None:
        self.check = check
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._is_ready = False
        self._is_open = False
        self._has_failed = False

    def __enter__(self) -> Readers:
        self._is_open = True
        return self

    def __exit__(self, *error: object) -> None:
        self._is_open = self._has_failed = False
        self._end()

    def start(self) -> None:
        """Start the second process, if there is none yet, none has failed, and there is a processor for it.

        Does nothing outside of a ``with`` statement. Returns before the process is ready.
        """
        if not self._is_open or self._process is not None or self._has_failed:
            return
        if len(os.sched_getaffinity(0)) < 2:
            return
        self._is_ready = False
        ours, theirs = socket.socketpair()
        user, group = present_rights()
        argv = [sys.executable, "-I", "-m", "sysreg_cli.agent.storage.second_reader"]
        argv += [str(theirs.fileno()), str(user), str(group)]
        with theirs:
            self._connection = Connection(ours.detach())
            # The owner of the storage may have no right to run this Python.
            with contextlib.suppress(OSError), as_process():
                # A session of its own: it ends with this process, not by a signal from a terminal.
                self._process = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )

    def map(self, read: Callable[[Item, Check], Found], items: Sequence[Item]) -> Iterator[Found]:
        """Yield what ``read`` returns for each item, in their order.

        In the second process, ``read`` has a check that does nothing. ``read``, the items and what it returns
        can be pickled. Raises what ``read`` and the check raise.
        """
        size = max(1, len(items) // _PARTS)
        parts = [items[start : start + size] for start in range(0, len(items), size)]
        found: dict[int, list[Found]] = {}
        left, sent = deque(range(len(parts))), deque[int]()
        while left or sent:
            while len(left) > 1 and len(sent) < _AHEAD and self._send(read, parts[left[-1]]):
                sent.append(left.pop())
            if left:
                number = left.popleft()
                found[number] = [read(item, self.check) for item in parts[number]]
            while sent and self._has_answer(0.0 if left else _POLL):
                number = sent.popleft()
                if (answer := self._answer()) is not None:
                    found[number] = answer
                else:
                    left.extend((number, *sent))
                    sent.clear()
            self.check()
        for number in range(len(parts)):
            yield from found.pop(number)

    def _send(self, read: Callable[[Item, Check], Found], part: Sequence[Item]) -> bool:
        """Give the second process a part of the work. Return False if it is not there, or not ready yet."""
        if self._connection is None or not (self._is_ready or self._has_answer(0.0)):
            return False
        try:
            # An upgrade of the package replaces the files of a process that runs.
            if not self._is_ready and self._connection.recv() != __version__:
                self._fail()
                return False
            self._is_ready = True
            self._connection.send((read, part))
        except (OSError, EOFError):
            self._fail()
            return False
        return True

    def _has_answer(self, seconds: float) -> bool:
        return self._connection is None or self._connection.poll(seconds)

    def _answer(self) -> list[Any] | None:
        """Return what the second process found, None if it failed: this one then meets the same error."""
        answer = None
        if self._connection is not None:
            with contextlib.suppress(OSError, EOFError):
                answer = self._connection.recv()
        if answer is None:
            self._fail()
        return answer

    def _fail(self) -> None:
        self._has_failed = True
        self._end()

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            # It may hang in a storage that does not answer.
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END)
            self._process = None


class _CycleSearch:
    """Python's search for cycles. It is off while any thread wants that."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wishes = 0

    def switch_off(self) -> None:
        with self._lock:
            self._wishes += 1
            gc.disable()

    def switch_on(self) -> None:
        with self._lock:
            self._wishes -= 1
            if not self._wishes:
                gc.enable()


_cycle_search = _CycleSearch()


@contextlib.contextmanager
def no_cycle_search() -> Iterator[None]:
    """Keep Python from searching for cycles: a snapshot has 200,000 objects and no cycle. This saves 5 %."""
    _cycle_search.switch_off()
    try:
        yield
    finally:
        _cycle_search.switch_on()
