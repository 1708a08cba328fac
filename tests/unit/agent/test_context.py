"""Guarded routes: roles, error responses, and the audit log."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from sysreg_cli.agent.app import build
from sysreg_cli.agent.context import AgentContext, Endpoint
from sysreg_cli.agent.identity import Caller, CallerAuthenticator, Peer, Role
from sysreg_cli.errors import Conflict
from sysreg_cli.settings import KeystoneSettings, Settings
from tests.unit.token_server import asgi

ROOT, NOBODY = Peer(7, 0, 0), Peer(8, 1000, 1000)


async def succeed(request: Request, caller: Caller) -> Response:
    request.state.audit_object = "something\nnew"
    return Response(f"hello {caller.name}")


async def conflict(request: Request, caller: Caller) -> Response:
    raise Conflict("another one runs")


async def fail(request: Request, caller: Caller) -> Response:
    raise FileNotFoundError(2, "No such file or directory", "/etc/x")


async def crash(request: Request, caller: Caller) -> Response:
    raise RuntimeError("oops")


def call(endpoint: Endpoint, role: Role = Role.ADMIN, peer: Peer = ROOT) -> asgi.Response:
    return calls(endpoint, [peer], role)[0]


def calls(endpoint: Endpoint, peers: Sequence[Peer], role: Role = Role.ADMIN) -> list[asgi.Response]:
    """Call ``endpoint`` once for each of ``peers``."""
    settings = Settings(keystone=KeystoneSettings(auth_url="http://keystone:5000"))
    context = AgentContext(settings, CallerAuthenticator(settings.keystone))
    app = build([context.route("GET", "/v1/thing", endpoint, role, action="thing")])

    async def story() -> list[asgi.Response]:
        responses = []
        for peer in peers:

            async def with_peer(scope: Any, receive: Any, send: Any, peer: Peer = peer) -> None:
                await app({**scope, "state": {"peer": peer}, "client": None}, receive, send)

            responses.append(await asgi.call(with_peer, path="/v1/thing/"))
        context.refusals.flush()
        return responses

    return asyncio.run(story())


def text(response: asgi.Response) -> str:
    fault = json.loads(response.json()["error_message"])
    return str(fault["faultstring"])


@pytest.fixture(autouse=True)
def log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def audited(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "sysreg.audit"]


def test_a_change_is_one_audit_line_with_control_characters_escaped(caplog: pytest.LogCaptureFixture) -> None:
    response = call(succeed)
    assert (response.status, response.body) == (200, b"hello root")
    (line,) = audited(caplog)
    assert line.startswith(r"thing something\nnew by root (uid 0 pid 7): done (")


def test_refusals_of_a_client_are_summed_up_and_what_succeeds_is_always_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls(succeed, [NOBODY, ROOT] * 100)
    lines = audited(caplog)
    assert sum(": done (" in line for line in lines) == 100
    assert sum(": refused: " in line for line in lines) == 10
    assert lines[-1] == "90 more calls of uid 1000 were refused within a minute"
    assert len(lines) == 111


def test_reading_is_not_audited_but_a_refusal_is(caplog: pytest.LogCaptureFixture) -> None:
    assert call(succeed, Role.READER).status == 200
    assert audited(caplog) == []
    response = call(succeed, Role.READER, NOBODY)
    assert response.status == 401
    assert response.headers["www-authenticate"] == 'Keystone uri="http://keystone:5000"'
    (line,) = audited(caplog)
    assert line.startswith("thing by nobody (uid 1000 pid 8): refused: no token was sent")


@pytest.mark.parametrize(
    ("endpoint", "status", "says"),
    [
        (conflict, 409, "another one runs"),
        (fail, 500, "thing failed: /etc/x: No such file or directory"),
    ],
)
def test_errors_become_responses(
    endpoint: Endpoint, status: int, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    response = call(endpoint)
    assert (response.status, text(response)) == (status, says)
    (line,) = audited(caplog)
    assert f"{'refused' if status < 500 else 'failed'}: {says} (" in line


def test_a_bug_is_audited_as_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(RuntimeError):
        call(crash)
    (line,) = audited(caplog)
    assert line.startswith("thing by root (uid 0 pid 7): failed (")
