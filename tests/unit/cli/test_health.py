"""`system registry-health-query` where there is no controller."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from devstack.ports import free_ports
from sysreg_cli.health.results import Name
from tests.unit.cli.conftest import Outcome

System = Callable[..., Outcome]


def test_an_unknown_check_or_column_is_refused(system: System) -> None:
    for words in (["--check", "weather"], ["-c", "Color"], ["--sort-column", "Color"]):
        code, out, err = system("registry-health-query", *words)
        assert (code, out, err.count("\n")) == (2, "", 1)


def test_another_registry_is_asked_on_its_own_controller(system: System) -> None:
    code, out, err = system("registry-health-query", "--registry", "elsewhere:5000")
    assert (code, out) == (1, "")
    assert err.startswith("system: elsewhere:5000 is not the registry of this controller")


def test_a_worker_sends_the_operator_to_the_controller(system: System, tmp_path: Path) -> None:
    (tmp_path / "sysreg.conf").write_text("[cluster]\nendpoints = 192.0.2.1:9006\nuser = host-worker-0\n")
    code, out, err = system("registry-health-query")
    assert (code, out) == (1, "")
    assert "this host is a worker" in err


def test_refused_settings_are_a_row_and_all_others_are_there(system: System, tmp_path: Path) -> None:
    (tmp_path / "sysreg.conf").write_text("[registry]\nport = many\n")
    code, out, err = system("registry-health-query", "-f", "json")
    rows = json.loads(out)
    assert (code, err) == (1, f"system: 1 of {len(Name)} checks failed: settings\n")
    assert [row["check"] for row in rows] == [str(name) for name in Name]
    assert rows[0]["status"] == "failed"
    assert "sysreg.conf:2: port: 'many' is not a port" in rows[0]["detail"]
    assert {row["status"] for row in rows[1:]} == {"skipped"}


def test_where_nothing_runs_each_row_says_what_to_do(system: System, tmp_path: Path) -> None:
    ports = free_ports(2)
    (tmp_path / "sysreg.conf").write_text(
        f"[registry]\nhost_names = localhost\nport = {ports[0]}\nstorage = {tmp_path}/storage\n"
        f"config = {tmp_path}/config.yml\n[token_server]\nport = {ports[1]}\nsigning_key = {tmp_path}/key\n"
        f"signing_certificate = {tmp_path}/crt\n[agent]\nsocket = {tmp_path}/agent.sock\n"
        f"[certificate]\ndirectory = {tmp_path}/tls\n[paths]\nstate = {tmp_path}/state\n"
    )
    code, out, _ = system("registry-health-query", "-f", "json")
    rows = {row["check"]: row for row in json.loads(out)}
    assert code == 1
    assert list(rows) == [str(name) for name in Name]
    for name, unit in (("registry", "docker-registry"), ("token-server", "sysreg-token-server")):
        assert rows[name]["status"] == "failed"
        assert rows[name]["detail"].endswith(f": systemctl restart {unit}.service")
    assert rows["agent"]["detail"].endswith(": systemctl restart sysreg-agent.service")
    assert rows["image"] == {
        "check": "image",
        "status": "skipped",
        "detail": "the registry does not answer",
    }
    assert rows["keystone"]["detail"].startswith("auth_url in section [keystone]")
