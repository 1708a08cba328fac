"""Waiting for a condition with a deadline: the only way tests and the embedded controller wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from devstack.errors import DevstackError

T = TypeVar("T")


class NotInTime(AssertionError):
    """The condition did not come true before the deadline."""


def wait_until(
    condition: Callable[[], T], deadline: float = 30.0, *, what: str = "", pause: float = 0.05
) -> T:
    """Call ``condition`` until its result is true, and return that result.

    ``deadline`` and ``pause`` are seconds. An exception of the condition counts as "not yet"; the last one
    is the cause of the NotInTime that is raised after the deadline. DevstackError ends the wait at once.
    """
    end = time.monotonic() + deadline
    last: Exception | None = None
    while True:
        try:
            if result := condition():
                return result
            last = None
        except DevstackError:
            raise
        except Exception as error:
            last = error
        if time.monotonic() >= end:
            because = f": {type(last).__name__}: {last}" if last else ""
            name = what or getattr(condition, "__name__", "condition")
            raise NotInTime(f"not within {deadline:g} s: {name}{because}") from last
        time.sleep(pause)
