"""Writes log lines: all lines of one turn of the event loop in one system call.

With a record of the logging module and a system call for each line, the log would take a fifth of the time of
a token request under load.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import BinaryIO

import orjson

from sysreg_cli.addresses import network_of
from sysreg_cli.daemon.refusal_sums import RefusalSums


class DecisionLog:
    """Writes JSON objects to ``stream``, one a line, in ASCII. Only the event loop's thread may use it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lines: list[bytes] = []
        self._refusals = RefusalSums(self._write_sum)

    def wants_refusal(self, client: str, status: int) -> bool:
        """Count a refusal with this HTTP status. Return whether it gets a line of its own.

        ``client`` is the address. The other refusals of a minute are one line.
        """
        return self._refusals.is_due(network_of(client), str(status))

    def write(self, decision: Mapping[str, object]) -> None:
        """Write one decision at the end of this turn of the event loop."""
        if not self._lines:
            asyncio.get_running_loop().call_soon(self.flush)
        self._lines.append(_encode(decision))

    def close(self) -> None:
        """Write the sums of refusals, and the pending lines."""
        self._refusals.flush()
        self.flush()

    def flush(self) -> None:
        """Write the pending lines now."""
        if self._lines:
            lines, self._lines = self._lines, []
            self._stream.write(b"\n".join(lines) + b"\n")
            self._stream.flush()

    def _write_sum(self, client: str, statuses: Mapping[str, int]) -> None:
        self.write({"event": "refusals", "client": client, "not_written": dict(statuses)})


def _encode(decision: Mapping[str, object]) -> bytes:
    """Encode as JSON in ASCII. orjson is fast, but writes UTF-8: that is fine for nearly every line."""
    line = orjson.dumps(decision)
    if line.isascii() and b"\x7f" not in line:
        return line
    return json.dumps(decision, separators=(",", ":")).replace("\x7f", "\\u007f").encode("ascii")
