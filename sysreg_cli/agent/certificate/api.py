"""The certificate calls of the agent's API (docs/contracts.rst, "The agent's API")."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from sysreg_cli.agent.certificate.transaction import CertificateChange
from sysreg_cli.agent.context import AgentContext
from sysreg_cli.agent.identity import Caller, Role
from sysreg_cli.errors import CertificateRefused, NotFound, UsageError
from sysreg_cli.host import trust
from sysreg_cli.host.generations import Generations
from sysreg_cli.host.locks import services_lock
from sysreg_cli.pki.check import check_authorities, check_server, read_certificates
from sysreg_cli.pki.describe import describe
from sysreg_cli.settings import Settings

SERVER_MODE, AUTHORITY_MODE = "docker_registry", "ssl_ca"

#: seconds for a client to send its form
_FORM_SECONDS = 30
_LOCK_SECONDS = 120.0


def routes(context: AgentContext, change: CertificateChange) -> list[BaseRoute]:
    """POST certificate_install, GET the list, GET one."""
    calls = _Calls(context.settings, change)
    return [
        context.route(
            "POST",
            "/v1/certificate/certificate_install",
            calls.install,
            Role.ADMIN,
            action="certificate install",
        ),
        context.route("GET", "/v1/certificate", calls.list_all, Role.READER, action="certificate list"),
        context.route("GET", "/v1/certificate/{wanted}", calls.show, Role.READER, action="certificate show"),
    ]


class _Calls:
    def __init__(self, settings: Settings, change: CertificateChange) -> None:
        self._settings = settings
        self._change = change

    async def install(self, request: Request, _caller: Caller) -> Response:
        data, mode, passphrase = await _form(request)
        request.state.audit_object = mode
        try:
            # a thread of its own: a client that goes away doesn't stop a change half way
            certificates = await asyncio.to_thread(self._install, mode, data, passphrase)
        except CertificateRefused as error:
            request.state.audit_outcome = f"refused: {error}"
            return JSONResponse({"success": "", "error": str(error), "body": "", "certificates": []})
        request.state.audit_object = ", ".join(one["signature"] for one in certificates)
        return JSONResponse({"success": "", "error": "", "body": "", "certificates": certificates})

    def _install(self, mode: str, data: bytes, passphrase: bytes | None) -> list[dict[str, Any]]:
        settings = self._settings
        now = datetime.now(UTC)
        days = settings.certificate.min_days_warning
        if mode == SERVER_MODE:
            chain = check_server(
                data,
                passphrase=passphrase,
                host_names=settings.registry.host_names,
                now=now,
                min_days_warning=days,
            )
            left = self._change.install(chain)
            left += [
                f"{path} was not written by sysreg-agent and stays as it is: its `ca` has to name"
                f" {path.parent / trust.anchor_name(chain.anchor)}"
                for path in trust.foreign_files(settings)
            ]
            return [_described(chain.certificates[0], mode, warnings=[*chain.warnings, *left])]
        authorities = check_authorities(data, now=now, min_days_warning=days)
        with services_lock(settings.paths.state, "CA install", wait=_LOCK_SECONDS):
            trust.install_authorities(settings, authorities)
        return [_described(one.certificate, mode, warnings=one.warnings) for one in authorities]

    async def list_all(self, _request: Request, _caller: Caller) -> Response:
        return JSONResponse({"certificates": await asyncio.to_thread(self._installed)})

    async def show(self, request: Request, _caller: Caller) -> Response:
        wanted = request.path_params["wanted"]
        for one in await asyncio.to_thread(self._installed):
            if wanted in (one["uuid"], one["name"]):
                return JSONResponse(one)
        raise NotFound(f"no certificate {wanted}", next_step="see the names with certificate-list")

    def _installed(self) -> list[dict[str, Any]]:
        generations = Generations(self._settings.certificate.directory)
        current = generations.current()
        found = []
        if current is not None:
            found.append(_described(read_certificates(generations.chain(current))[0], SERVER_MODE))
        found += [_described(one, AUTHORITY_MODE) for one in trust.installed_authorities(self._settings)]
        return found


def _described(
    certificate: x509.Certificate, mode: str, warnings: tuple[str, ...] | list[str] = ()
) -> dict[str, Any]:
    described = asdict(describe(certificate, mode))
    name = SERVER_MODE if mode == SERVER_MODE else described["signature"]
    return {**described, "name": name, "warnings": list(warnings)}


async def _form(request: Request) -> tuple[bytes, str, bytes | None]:
    """File, mode and passphrase; other fields, ``force`` among them, are ignored. Raises UsageError."""
    try:
        async with asyncio.timeout(_FORM_SECONDS), request.form(max_files=4, max_fields=16) as form:
            upload, mode, passphrase = form.get("file"), form.get("mode"), form.get("passphrase")
            data = await upload.read() if isinstance(upload, UploadFile) else (upload or "").encode()
    except TimeoutError:
        raise HTTPException(408, f"the form did not arrive within {_FORM_SECONDS} s") from None
    if upload is None:
        raise UsageError("the field `file` is missing in the form")
    if mode not in (SERVER_MODE, AUTHORITY_MODE):
        raise UsageError(f"the field `mode` has to be {SERVER_MODE} or {AUTHORITY_MODE}")
    return data, mode, passphrase.encode() if isinstance(passphrase, str) and passphrase else None
