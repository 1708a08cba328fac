"""What the modules with routes share: settings, the authenticator, and how a route is guarded."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from starlette.routing import Route

from sysreg_cli.agent.endpoint import Endpoint, GuardedEndpoint
from sysreg_cli.agent.identity import Authenticator, Role
from sysreg_cli.settings import Settings


@dataclass(frozen=True)
class AgentContext:
    """One per agent process."""

    settings: Settings
    authenticator: Authenticator
    #: tasks that outlive the request that started them; they end with the agent
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def route(self, method: str, path: str, endpoint: Endpoint, role: Role, *, action: str) -> Route:
        """Return a route that only callers with ``role`` reach. The audit log names ``action``."""
        guarded = GuardedEndpoint(endpoint, role, action, self.authenticator, self.settings.keystone.auth_url)
        return Route(path, guarded.respond, methods=[method])
