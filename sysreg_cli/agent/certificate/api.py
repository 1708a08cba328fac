"""The certificate calls of the agent's API (docs/contracts.rst, "The agent's API")."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from sysreg_cli.agent import parameters
from sysreg_cli.agent.certificate.authorities import choose, client_restarts, uninstall
from sysreg_cli.agent.certificate.history import History
from sysreg_cli.agent.certificate.installer import CertificateInstaller, Material
from sysreg_cli.agent.certificate.requests import PendingRequests
from sysreg_cli.agent.certificate.transaction import CertificateChange
from sysreg_cli.agent.context import AgentContext
from sysreg_cli.agent.identity import Caller, Role
from sysreg_cli.agent.registry_host import Cluster
from sysreg_cli.agent.renewal.record import SourceRecord
from sysreg_cli.errors import CertificateRefused, SysregError, UsageError
from sysreg_cli.host.generations import Generations
from sysreg_cli.host.system_bundle import SystemBundle
from sysreg_cli.pki.check import Authorities, ServerChain
from sysreg_cli.pki.describe import describe, with_unique_names
from sysreg_cli.settings import Settings
from sysreg_cli.v1 import paths, wire
from sysreg_cli.v1.certificates import (
    MAX_HOSTS_WAIT,
    Certificate,
    CertificateHistory,
    CertificateRequests,
    Certificates,
    Installation,
    KeyKind,
    Mode,
    Preview,
    Uninstallation,
)
from sysreg_cli.v1.hosts import HostsReport

#: Time for a client to send its form, in seconds.
_FORM_SECONDS = 30
#: The longest wait for a collection or another change, and its share of the client's own wait for the
#: response. The rest is for the install.
_MAX_WAIT = 240.0
_WAIT_SHARE = 0.8
_MAX_CLIENT_WAIT = 86400
#: how long an install waits for the hosts of the cluster, in seconds
_HOSTS_WAIT = 10


def _utc_now() -> datetime:
    return datetime.now(UTC)


def routes(
    context: AgentContext,
    change: CertificateChange,
    source: Callable[[], SourceRecord] = lambda: SourceRecord(""),
    *,
    cluster: Cluster | None = None,
    clock: Callable[[], datetime] = _utc_now,
) -> list[BaseRoute]:
    """Return the routes to install certificates, to go back, to list them, and to show one.

    ``source`` returns what is known about the source of renewed certificates. ``cluster`` are the other
    hosts, if there are any.
    """
    installer = CertificateInstaller(context.settings, change)
    calls = _Calls(context.settings, installer, source, cluster, clock)
    return [
        context.route(
            "POST", paths.CERTIFICATE_INSTALL, calls.install, Role.ADMIN, action="certificate install"
        ),
        context.route(
            "POST", paths.CERTIFICATE_PREVIEW, calls.preview, Role.ADMIN, action="certificate preview"
        ),
        context.route(
            "POST", paths.CERTIFICATE_ROLLBACK, calls.rollback, Role.ADMIN, action="certificate rollback"
        ),
        context.route(
            "GET", paths.CERTIFICATE_HISTORY, calls.history, Role.READER, action="certificate history"
        ),
        context.route(
            "POST", paths.CERTIFICATE_REQUEST, calls.request, Role.ADMIN, action="certificate request"
        ),
        context.route(
            "GET", paths.CERTIFICATE_REQUEST, calls.list_requests, Role.READER, action="request list"
        ),
        context.route(
            "DELETE",
            f"{paths.CERTIFICATE_REQUEST}/{{uuid}}",
            calls.cancel_request,
            Role.ADMIN,
            action="certificate request cancel",
        ),
        context.route("GET", paths.CERTIFICATE, calls.list_all, Role.READER, action="certificate list"),
        context.route(
            "GET", f"{paths.CERTIFICATE}/{{uuid}}", calls.show, Role.READER, action="certificate show"
        ),
        context.route(
            "DELETE",
            f"{paths.CERTIFICATE}/{{uuid}}",
            calls.uninstall,
            Role.ADMIN,
            action="certificate uninstall",
        ),
    ]


@dataclass(frozen=True)
class _Form:
    """What a client sends to install a certificate. ``wait`` is in seconds."""

    material: Material
    wait: float
    restart_clients: bool
    require_all_hosts: bool
    hosts_wait: float


class _Calls:
    def __init__(
        self,
        settings: Settings,
        installer: CertificateInstaller,
        source: Callable[[], SourceRecord],
        cluster: Cluster | None,
        clock: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._cluster = cluster
        self._installer = installer
        self._source = source
        self._clock = clock
        self._requests = PendingRequests(settings)

    async def install(self, request: Request, caller: Caller) -> Response:
        form = await _read_form(request)
        request.state.audit_object = form.material.mode.value
        try:
            # in a thread, so that the change goes on if the client disconnects
            installation = await asyncio.to_thread(self._install, form, caller.name)
        except CertificateRefused as error:
            return _refusal(request, error)
        request.state.audit_object = ", ".join(shown.signature for shown in installation.certificates)
        return JSONResponse(wire.to_json(installation))

    def _install(self, form: _Form, by: str) -> Installation:
        checked = self._installer.check(form.material, now=self._clock())
        if isinstance(checked, Authorities):
            return self._install_authorities(checked, form, by)
        certificates = self._installer.install(
            checked, by=by, wait=form.wait, require_all_hosts=form.require_all_hosts
        )
        return self._with_hosts(certificates[0], form.hosts_wait)

    def _install_authorities(self, checked: Authorities, form: _Form, by: str) -> Installation:
        there = self._hosts_before(require_all=form.require_all_hosts)
        certificates = self._installer.install(checked, by=by, wait=form.wait)
        clients = client_restarts(self._settings, restart=form.restart_clients)
        report = self._hosts_after(there, form.hosts_wait, by)
        first, *others = (replace(one, hosts=report.hosts) for one in certificates)
        first = replace(first, warnings=(*first.warnings, *report.warnings))
        return Installation(
            "",
            (first, *others),
            refused=_refused(checked),
            clients=clients,
            hosts_problem=report.problem,
        )

    def _hosts_before(self, *, require_all: bool) -> frozenset[str]:
        """Return the other hosts that are there, before CA certificates change. Raises SysregError."""
        return self._cluster.before_authorities(require_all=require_all) if self._cluster else frozenset()

    def _hosts_after(self, there: frozenset[str], seconds: float, by: str) -> HostsReport:
        """Have the other hosts trust the changed CA certificates, and return what came of it."""
        return self._cluster.after_authorities(there, seconds, by=by) if self._cluster else HostsReport()

    def _with_hosts(self, certificate: Certificate, seconds: float) -> Installation:
        """Wait up to ``seconds`` for the other hosts to have the certificate in use."""
        report = self._cluster.after_change(seconds) if self._cluster else HostsReport()
        warnings = (*certificate.warnings, *report.warnings)
        shown = replace(certificate, warnings=warnings, hosts=report.hosts)
        return Installation("", (shown,), hosts_problem=report.problem)

    async def preview(self, request: Request, _caller: Caller) -> Response:
        form = await _read_form(request)
        request.state.audit_object = form.material.mode.value
        try:
            preview = await asyncio.to_thread(self._preview, form.material)
        except CertificateRefused as error:
            preview = Preview(str(error), (), reasons=error.problems)
        return JSONResponse(wire.to_json(preview))

    def _preview(self, material: Material) -> Preview:
        now = self._clock()
        checked = self._installer.check(material, now=now)
        return Preview("", self._installer.plan(checked, now=now), refused=_refused(checked))

    async def rollback(self, request: Request, caller: Caller) -> Response:
        request.state.audit_object = Mode.DOCKER_REGISTRY.value
        serial = parameters.serial_number(request, "serial")
        wait = _own_wait(parameters.seconds(request, "wait", math.inf, maximum=_MAX_CLIENT_WAIT))
        try:
            shown = await asyncio.to_thread(self._installer.rollback, serial, by=caller.name, wait=wait)
        except CertificateRefused as error:
            return _refusal(request, error)
        request.state.audit_object = shown.signature
        installation = await asyncio.to_thread(self._with_hosts, shown, _HOSTS_WAIT)
        return JSONResponse(wire.to_json(installation))

    async def uninstall(self, request: Request, caller: Caller) -> Response:
        name = request.path_params["uuid"]
        request.state.audit_object = name
        restart = parameters.flag(request, "restart_clients")
        wait = _own_wait(parameters.seconds(request, "wait", math.inf, maximum=_MAX_CLIENT_WAIT))
        require_all = parameters.flag(request, "require_all_hosts")
        hosts_wait = _hosts_wait(request.query_params.get("hosts_wait", str(_HOSTS_WAIT)))
        there = await asyncio.to_thread(self._hosts_before, require_all=require_all)
        removed = await asyncio.to_thread(self._uninstall, name, wait)
        request.state.audit_object = removed.signature
        clients = await asyncio.to_thread(client_restarts, self._settings, restart=restart)
        report = await asyncio.to_thread(self._hosts_after, there, hosts_wait, caller.name)
        shown = replace(removed, warnings=report.warnings, hosts=report.hosts)
        return JSONResponse(wire.to_json(Uninstallation(shown, clients, report.problem)))

    def _uninstall(self, name: str, wait: float) -> Certificate:
        servers = [one for one in self._installed() if one.certtype == Mode.DOCKER_REGISTRY]
        if name == Mode.DOCKER_REGISTRY or name in [one.uuid for one in servers]:
            raise UsageError(
                f"{name} is the certificate that the registry serves with, and cannot be uninstalled",
                next_step="install another (certificate-install -m docker_registry), or go back to an earlier"
                " one (certificate-rollback docker_registry)",
            )
        return uninstall(self._settings, name, wait=wait)

    async def request(self, request: Request, _caller: Caller) -> Response:
        kind = request.query_params.get("key", KeyKind.P256)
        if kind not in list(KeyKind):
            raise UsageError(f"key has to be {', '.join(KeyKind)}")
        names = request.query_params.getlist("name")
        made = await asyncio.to_thread(self._requests.create, names, KeyKind(kind))
        request.state.audit_object = made.uuid
        return JSONResponse(wire.to_json(made))

    async def list_requests(self, _request: Request, _caller: Caller) -> Response:
        pending = await asyncio.to_thread(self._requests.all)
        return JSONResponse(wire.to_json(CertificateRequests(tuple(pending))))

    async def cancel_request(self, request: Request, _caller: Caller) -> Response:
        request.state.audit_object = request.path_params["uuid"]
        await asyncio.to_thread(self._requests.cancel, request.path_params["uuid"])
        return Response(status_code=204)

    async def history(self, _request: Request, _caller: Caller) -> Response:
        entries = await asyncio.to_thread(History(self._settings).entries, self._clock())
        return JSONResponse(wire.to_json(CertificateHistory(tuple(entries))))

    async def list_all(self, _request: Request, _caller: Caller) -> Response:
        certificates = Certificates(await asyncio.to_thread(self._installed))
        return JSONResponse(wire.to_json(certificates))

    async def show(self, request: Request, _caller: Caller) -> Response:
        name = request.path_params["uuid"]
        certificate = choose(await asyncio.to_thread(self._installed), name)
        if self._cluster:
            certificate = await asyncio.to_thread(self._on_hosts, certificate, self._cluster)
        return JSONResponse(wire.to_json(certificate))

    def _on_hosts(self, certificate: Certificate, cluster: Cluster) -> Certificate:
        try:
            return replace(certificate, hosts=cluster.hosts_of(Mode(certificate.certtype)))
        except SysregError as error:
            return replace(certificate, warnings=(f"the hosts are not known: {error}",))

    def _installed(self) -> tuple[Certificate, ...]:
        generations = Generations(self._settings.certificate.directory)
        current = generations.current()
        servers = generations.certificates(current)[:1] if current else ()
        authorities = SystemBundle(self._settings.paths).installed()
        source = self._source()
        return (
            *(
                replace(
                    describe(certificate, Mode.DOCKER_REGISTRY),
                    source=source.source,
                    source_seen=source.seen,
                    source_problem=source.problem,
                )
                for certificate in servers
            ),
            *with_unique_names(describe(certificate, Mode.SSL_CA) for certificate in authorities),
        )


def _refusal(request: Request, error: CertificateRefused) -> Response:
    """Return the response to an install that is refused, which is 200 as in StarlingX's API."""
    request.state.audit_outcome = f"refused: {error}"
    return JSONResponse(wire.to_json(Installation(str(error), (), reasons=error.problems)))


def _own_wait(seconds: float) -> float:
    """Return how long to wait for other changes if the client waits ``seconds`` for the response."""
    return min(_MAX_WAIT, max(0.0, seconds * _WAIT_SHARE))


def _refused(checked: ServerChain | Authorities) -> tuple[str, ...]:
    """Return why certificates of a bundle are left out."""
    return checked.refused if isinstance(checked, Authorities) else ()


async def _read_form(request: Request) -> _Form:
    """Read the form, and ignore unknown fields, ``force`` among them. Raises UsageError, HTTPException."""
    try:
        async with asyncio.timeout(_FORM_SECONDS), request.form(max_files=4, max_fields=16) as form:
            fields = {name: text for name, text in form.items() if isinstance(text, str)}
            file = form.get("file")
            data = await file.read() if isinstance(file, UploadFile) else (file or "").encode()
    except TimeoutError:
        raise HTTPException(408, f"the form did not arrive within {_FORM_SECONDS} s") from None
    if file is None:
        raise UsageError("the field `file` is missing in the form")
    try:
        mode = Mode(fields.get("mode", ""))
    except ValueError:
        raise UsageError(f"the field `mode` has to be {' or '.join(Mode)}") from None
    try:
        wait = float(fields.get("wait", math.inf))
    except ValueError:
        raise UsageError("the field `wait` has to be a number of seconds") from None
    restart = parameters.parse_flag(fields.get("restart_clients", ""), "restart_clients")
    passphrase = fields.get("passphrase", "").encode() or None
    require_all = parameters.parse_flag(fields.get("require_all_hosts", ""), "require_all_hosts")
    hosts_wait = _hosts_wait(fields.get("hosts_wait", str(_HOSTS_WAIT)))
    return _Form(Material(data, mode, passphrase), _own_wait(wait), restart, require_all, hosts_wait)


def _hosts_wait(text: str) -> float:
    """Parse how long to wait for the hosts, in seconds. Raises UsageError."""
    if not text.isascii() or not text.isdecimal() or len(text) > 9 or int(text) > MAX_HOSTS_WAIT:
        raise UsageError(f"hosts_wait has to be a whole number of seconds up to {MAX_HOSTS_WAIT}")
    return float(text)
