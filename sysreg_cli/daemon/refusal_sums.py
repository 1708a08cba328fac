"""Which refusals get a log line of their own: the first few of each client in a minute.

The others are summed up. Anybody can be refused thousands of times a second. That would be more lines than
the journal keeps, and they would push out those of others. What succeeded is always written.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping

_MAX_CLIENTS = 4096


class RefusalSums:
    """Counts refusals of each client by kind. Only the event loop's thread may use it.

    ``write`` gets a client, and by kind the number of its refusals that got no line: ``seconds`` after the
    first refusal, or earlier if very many clients are refused.
    """

    def __init__(
        self, write: Callable[[str, Mapping[str, int]], None], *, in_full: int = 10, seconds: float = 60.0
    ) -> None:
        self._write = write
        self._in_full = in_full
        self._seconds = seconds
        # of each client: how many were written, and the others
        self._written: Counter[str] = Counter()
        self._others: dict[str, Counter[str]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def is_due(self, client: str, kind: str) -> bool:
        """Count a refusal of ``client``. Return whether it gets a line of its own."""
        if len(self._written) >= _MAX_CLIENTS and client not in self._written:
            self.flush()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self.flush)
        if self._written[client] < self._in_full:
            self._written[client] += 1
            return True
        self._others.setdefault(client, Counter())[kind] += 1
        return False

    def flush(self) -> None:
        """Write the sums, and begin anew."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        others, self._others = self._others, {}
        self._written.clear()
        for client, kinds in others.items():
            self._write(client, kinds)
