"""A rate limit for each client in the network. The unix socket has none.

The response to a call beyond the limit is 429 with Retry-After. It comes before the caller is identified, so
a flood of wrong tokens does not reach Keystone.
"""

from __future__ import annotations

import math

from starlette.types import ASGIApp, Receive, Scope, Send

from sysreg_cli.addresses import network_of
from sysreg_cli.agent.responses import fault
from sysreg_cli.daemon.buckets import Buckets

_PER_SECOND = 20.0
_BURST = 60.0


class RateLimit:
    """Answers 429 to clients that call too often."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application
        self._buckets = Buckets(_PER_SECOND, _BURST)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # uvicorn names no client on a unix socket
        client = scope.get("client") if scope["type"] == "http" else None
        if client and (wait := self._buckets.take(network_of(client[0]))):
            seconds = str(math.ceil(wait))
            response = fault(429, f"too many calls; try again in {seconds} s", {"Retry-After": seconds})
            await response(scope, receive, send)
            return
        await self._application(scope, receive, send)
