"""The audit log: one line in the journal for each change and each refusal."""

from __future__ import annotations

import logging
import time

from starlette.requests import Request

from sysreg_cli.agent.identity import Peer
from sysreg_cli.errors import SysregError

_audit = logging.getLogger("sysreg.audit")


class AuditEntry:
    """What is known about one call so far. An endpoint sets ``request.state.audit_object``, its subject."""

    def __init__(self, request: Request, action: str) -> None:
        self._request = request
        self._action = action
        self._started = time.monotonic()
        self.caller = "nobody"
        self.outcome = "failed"

    def fail(self, error: SysregError) -> None:
        """Record ``error`` as the outcome."""
        self.outcome = f"{'refused' if error.http_status < 500 else 'failed'}: {error}"

    def write(self) -> None:
        """Write the line. Control characters that came from the caller are escaped."""
        subject = getattr(self._request.state, "audit_object", "")
        seconds = time.monotonic() - self._started
        write(self._action, subject, f"{self.caller} ({self._origin()})", self.outcome, seconds)

    def _origin(self) -> str:
        peer: Peer | None = getattr(self._request.state, "peer", None)
        if peer is not None:
            return f"uid {peer.uid} pid {peer.pid}"
        return self._request.client.host if self._request.client else "?"


def write(action: str, subject: str, who: str, outcome: str, seconds: float) -> None:
    """Write the line of a change. Control characters in it are escaped."""
    line = f"{action}{' ' if subject else ''}{subject} by {who}: {outcome} ({seconds:.3f} s)"
    _audit.info("%s", line.encode("unicode_escape").decode("ascii"))
