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
        line = (
            f"{self._action}{' ' if subject else ''}{subject} by {self.caller} ({self._origin()}):"
            f" {self.outcome} ({time.monotonic() - self._started:.3f} s)"
        )
        _audit.info("%s", line.encode("unicode_escape").decode("ascii"))

    def _origin(self) -> str:
        peer: Peer | None = getattr(self._request.state, "peer", None)
        if peer is not None:
            return f"uid {peer.uid} pid {peer.pid}"
        return self._request.client.host if self._request.client else "?"
