"""Writing the lines of decisions: those of one turn of the event loop go out in one write.

Under load a system call for each line would be a fifth of the cost of a token.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TextIO

LOGGER = "sysreg.decision"


class DecisionHandler(logging.Handler):
    """For a logger that is used in the event loop's thread alone; logging's end writes what is pending."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not self._lines:
            asyncio.get_running_loop().call_soon(self.flush)
        self._lines.append(self.format(record))

    def flush(self) -> None:
        if self._lines:
            lines, self._lines = self._lines, []
            self._stream.write("\n".join(lines) + "\n")
            self._stream.flush()


def install(stream: TextIO) -> None:
    """Send decisions to ``stream``, and there alone."""
    logger = logging.getLogger(LOGGER)
    logger.addHandler(DecisionHandler(stream))
    logger.propagate = False
