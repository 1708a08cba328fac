"""Writing the lines of decisions: those of one turn of the event loop go out in one write.

Under load, a record of the logging module and a system call for each line would be a fifth of the cost of a
token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import BinaryIO

import orjson


class DecisionLog:
    """Objects of JSON, one a line, on ``stream``; used in the event loop's thread alone."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lines: list[bytes] = []

    def write(self, decision: Mapping[str, object]) -> None:
        """Write one decision, at the end of this turn of the event loop."""
        if not self._lines:
            asyncio.get_running_loop().call_soon(self.flush)
        self._lines.append(orjson.dumps(decision))

    def flush(self) -> None:
        """Write what is pending now."""
        if self._lines:
            lines, self._lines = self._lines, []
            self._stream.write(b"\n".join(lines) + b"\n")
            self._stream.flush()
