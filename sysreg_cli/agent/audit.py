"""The audit log: one line in the journal for each change and each refusal.

Of a client that is refused again and again, it has the first refusals of a minute, and the number of others.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from starlette.requests import Request

from sysreg_cli.addresses import network_of
from sysreg_cli.agent.identity import Peer
from sysreg_cli.daemon.refusal_sums import RefusalSums
from sysreg_cli.errors import SysregError
from sysreg_cli.text import log_line

_audit = logging.getLogger("sysreg.audit")


_NOBODY = "nobody"


class AuditEntry:
    """What is known about one call so far. An endpoint sets ``request.state.audit_object``, its subject."""

    def __init__(self, request: Request, action: str, refusals: RefusalSums) -> None:
        self._request = request
        self._action = action
        self._refusals = refusals
        self._refused = False
        self._started = time.monotonic()
        self.caller = _NOBODY
        self.outcome = "failed"

    def fail(self, error: SysregError) -> None:
        """Record ``error`` as the outcome."""
        # an unknown caller asks in vain also if Keystone does not answer
        self._refused = error.http_status < 500 or self.caller == _NOBODY
        self.outcome = f"{'refused' if error.http_status < 500 else 'failed'}: {error}"

    def write(self) -> None:
        """Write the line, unless the client was refused too often in this minute."""
        if self._refused and not self._refusals.is_due(self._client(), "calls"):
            return
        subject = getattr(self._request.state, "audit_object", "")
        seconds = time.monotonic() - self._started
        write(self._action, subject, f"{self.caller} ({self._origin()})", self.outcome, seconds)

    def _origin(self) -> str:
        peer = self._peer()
        return f"uid {peer.uid} pid {peer.pid}" if peer else self._address() or "?"

    def _client(self) -> str:
        peer = self._peer()
        return f"uid {peer.uid}" if peer else network_of(self._address())

    def _peer(self) -> Peer | None:
        return getattr(self._request.state, "peer", None)

    def _address(self) -> str:
        return self._request.client.host if self._request.client else ""


def write(action: str, subject: str, who: str, outcome: str, seconds: float) -> None:
    """Write the line of a change. What is not printable ASCII in it is escaped."""
    line = f"{action}{' ' if subject else ''}{subject} by {who}: {outcome} ({seconds:.3f} s)"
    _audit.info("%s", log_line(line))


def refusal_sums() -> RefusalSums:
    """Return the counter that decides which refusals are written, and writes how many others there were."""
    return RefusalSums(_write_sum)


def _write_sum(client: str, kinds: Mapping[str, int]) -> None:
    _audit.info("%s", log_line(f"{sum(kinds.values())} more calls of {client} were refused within a minute"))
