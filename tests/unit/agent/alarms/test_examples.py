"""The examples in docs/examples do what they say. StarlingX's fault manager is a stand-in: it is not here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from sysreg_cli.agent.alarms.alarm import Action, AlarmChange, AlarmId
from sysreg_cli.v1 import wire

EXAMPLES = Path(__file__).parents[4] / "docs/examples"
ENTITY = "system.certificate.mode=docker_registry.uuid=0a1b"

_FM_API = """
import json, os
class Constants:
    def __getattr__(self, name): return name
constants = Constants()
class Fault:
    def __init__(self, **fields): self.fields = fields
class FaultAPIs:
    def _write(self, *call):
        with open(os.environ["CALLS"], "a") as file: file.write(json.dumps(call) + "\\n")
    def get_fault(self, *key): return True
    def clear_fault(self, *key): self._write("clear", *key)
    def set_fault(self, fault):
        self._write("set", fault.fields)
        return os.environ["UUID"]
"""


def change(action: Action) -> bytes:
    value = AlarmChange(
        action, AlarmId.EXPIRED, ENTITY, "critical", "it expired", "2026-11-26T18:00:00+00:00"
    )
    return json.dumps(wire.to_json(value)).encode()


@pytest.mark.parametrize(("uuid", "status"), [("1f", 0), ("", 1)])
def test_starlingx_gets_what_is_set_and_cleared(tmp_path: Path, uuid: str, status: int) -> None:
    package, calls = tmp_path / "fm_api", tmp_path / "calls"
    package.mkdir()
    (package / "__init__.py").write_text("from fm_api import fm_api\nfrom fm_api.fm_api import constants\n")
    (package / "fm_api.py").write_text(_FM_API)
    environ = {"PYTHONPATH": str(tmp_path), "CALLS": str(calls), "UUID": uuid}
    for action in Action:
        done = subprocess.run(
            [sys.executable, EXAMPLES / "alarm-starlingx"],
            input=change(action),
            env=environ,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == (status if action is Action.SET else 0), done.stderr.decode()
    (_, fault), clear = map(json.loads, calls.read_text().splitlines())
    assert (fault["alarm_id"], fault["entity_instance_id"]) == ("500.210", ENTITY)
    assert (fault["severity"], fault["reason_text"]) == ("critical", "it expired")
    assert clear == ["clear", "500.210", ENTITY]


@pytest.mark.parametrize(("answer", "status"), [(204, 0), (500, 22)])
def test_a_webhook_gets_the_json(httpserver: HTTPServer, answer: int, status: int) -> None:
    httpserver.expect_request("/hook", method="POST").respond_with_data(status=answer)
    done = subprocess.run(
        [EXAMPLES / "alarm-webhook", httpserver.url_for("/hook")],
        input=change(Action.SET),
        env={"PATH": "/usr/bin:/bin", "no_proxy": "*"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stderr.decode()
    ((request, _),) = httpserver.log
    assert request.get_json()["action"] == "set"
    assert request.headers["Content-Type"] == "application/json"
