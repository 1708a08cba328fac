"""The registry_host calls: this controller, and the hosts of its cluster if it has one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sysreg_cli.agent.certificate.history import History
from sysreg_cli.agent.context import AgentContext
from sysreg_cli.agent.identity import Caller, Role
from sysreg_cli.errors import Conflict, NotFound
from sysreg_cli.host.generations import Generations
from sysreg_cli.pki.describe import describe
from sysreg_cli.settings import Settings
from sysreg_cli.v1 import paths, wire
from sysreg_cli.v1.certificates import HistoryState, Mode
from sysreg_cli.v1.hosts import HostsReport, JoinFile, RegistryHost, RegistryHosts


class Cluster(Protocol):
    """The other hosts; see ``agent.hosts``. Its methods block, and raise SysregError."""

    def hosts(self) -> tuple[RegistryHost, ...]: ...

    def hosts_of(self, mode: Mode) -> tuple[RegistryHost, ...]: ...

    def after_change(self, seconds: float) -> HostsReport: ...

    def before_authorities(self, *, require_all: bool) -> frozenset[str]: ...

    def after_authorities(self, was_there: Collection[str], seconds: float, *, by: str) -> HostsReport: ...

    def add(self, host: str) -> JoinFile: ...

    def remove(self, host: str) -> RegistryHost: ...


def routes(context: AgentContext, cluster: Cluster | None = None) -> list[Route]:
    """Return the routes to list, show, add and delete hosts. Without ``cluster`` there is one host."""
    calls = _Calls(context.settings, cluster)
    one = f"{paths.REGISTRY_HOST}/{{uuid}}"
    return [
        context.route("GET", paths.REGISTRY_HOST, calls.list_all, Role.READER, action="host list"),
        context.route("GET", one, calls.show, Role.READER, action="host show"),
        context.route("POST", one, calls.add, Role.ADMIN, action="host add"),
        context.route("DELETE", one, calls.delete, Role.ADMIN, action="host delete"),
    ]


class _Calls:
    def __init__(self, settings: Settings, cluster: Cluster | None) -> None:
        self._settings = settings
        self._cluster = cluster

    async def list_all(self, _request: Request, _caller: Caller) -> Response:
        return JSONResponse(wire.to_json(RegistryHosts(await asyncio.to_thread(self._hosts))))

    async def show(self, request: Request, _caller: Caller) -> Response:
        name = _host_of(request)
        for host in await asyncio.to_thread(self._hosts):
            if host.host.lower() == name:
                return JSONResponse(wire.to_json(host))
        raise NotFound(f"no host {name}", next_step="see the names with registry-host-list")

    async def add(self, request: Request, _caller: Caller) -> Response:
        name = _host_of(request)
        request.state.audit_object = name
        join = await asyncio.to_thread(self._required().add, name)
        return JSONResponse(wire.to_json(join))

    async def delete(self, request: Request, _caller: Caller) -> Response:
        name = _host_of(request)
        request.state.audit_object = name
        if name == self._controller().host.lower():
            raise Conflict(f"{name} is the controller itself", next_step="see sysreg-deploy --remove")
        return JSONResponse(wire.to_json(await asyncio.to_thread(self._required().remove, name)))

    def _required(self) -> Cluster:
        if self._cluster is None:
            raise Conflict(
                "this controller has no cluster", next_step="set the section [cluster] of sysreg.conf"
            )
        return self._cluster

    def _hosts(self) -> tuple[RegistryHost, ...]:
        others = self._cluster.hosts() if self._cluster else ()
        return (self._controller(), *others)

    def _controller(self) -> RegistryHost:
        """Return this machine: it trusts and serves the certificate in use, or none yet."""
        name = self._settings.cluster.host or socket.gethostname()
        generations = Generations(self._settings.certificate.directory)
        current = generations.current()
        if current is None:
            reason, remedy = "no certificate is installed", "run sysreg-deploy"
            return RegistryHost(name, "controller", "failed", reason=reason, remedy=remedy)
        shown = describe(generations.certificates(current)[0], Mode.DOCKER_REGISTRY)
        installs = History(self._settings).entries(datetime.now(UTC))
        since = [
            datetime.fromisoformat(one.installed_at).isoformat()
            for one in installs
            if one.state == HistoryState.IN_USE and one.name == shown.name
        ]
        return RegistryHost(name, "controller", "live", shown.signature, since[-1] if since else "")


def _host_of(request: Request) -> str:
    """Return the name in the path. Names of hosts are kept in lower case, and may be given in any."""
    return str(request.path_params["uuid"]).lower()
