"""systemd units: what is asked of systemd, and what is told when one does not start."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sysreg_cli.deploy.units import RELOAD, DaemonReload, EnabledUnit, OptionalUnit, RunningUnit, TryRestart
from sysreg_cli.errors import SysregError
from tests.unit.deploy.machine import FakePrograms, context_of, required

_UNIT = "some.service"


def show(name: str) -> str:
    return f"systemctl show --value --property {name} {_UNIT}"


def test_systemd_reads_units_that_changed_or_are_new(tmp_path: Path) -> None:
    programs = FakePrograms()
    context, reload = context_of(tmp_path, programs), DaemonReload((_UNIT,))
    assert reload.compare(context) is None
    for name, value in (("NeedDaemonReload", "yes\n"), ("LoadState", "not-found\n")):
        programs.outputs = {show(name): value}
        required(reload, context).apply(context)
    assert programs.changes == ["systemctl daemon-reload"] * 2


def test_systemd_reads_its_units_after_a_change_that_it_does_not_notice_itself(tmp_path: Path) -> None:
    programs = FakePrograms()
    context, reload = context_of(tmp_path, programs), DaemonReload((_UNIT,))
    context.require_restarts((_UNIT, RELOAD))
    required(reload, context).apply(context)
    assert programs.changes == ["systemctl daemon-reload"]
    assert reload.compare(context) is None
    assert context.record.restart == [_UNIT]


def test_a_unit_is_enabled_and_disabled_again(tmp_path: Path) -> None:
    programs, state = FakePrograms(), f"systemctl is-enabled {_UNIT}"
    context, unit = context_of(tmp_path, programs), EnabledUnit(_UNIT)
    programs.outputs[state] = "enabled\n"
    assert unit.compare(context) is None
    programs.outputs[state] = "disabled\n"
    required(unit, context).apply(context)
    programs.outputs[state] = "enabled\n"
    assert unit.remove(context) == f"disabled {_UNIT}"
    assert programs.changes == [f"systemctl enable --quiet {_UNIT}", f"systemctl disable --quiet {_UNIT}"]
    assert unit.remove(context) == "", "only what was enabled by us"


@pytest.mark.parametrize("state", ["", "not-found\n"], ids=["systemd 252", "systemd 257"])
def test_a_unit_whose_file_is_gone_needs_no_disabling(tmp_path: Path, state: str) -> None:
    programs = FakePrograms(
        outputs={f"systemctl is-enabled {_UNIT}": state},
        failing={f"systemctl disable --quiet {_UNIT}": "Unit some.service does not exist"},
    )
    context, unit = context_of(tmp_path, programs), EnabledUnit(_UNIT)
    assert required(unit, context).line == f"enable {_UNIT} (was not there)"
    context.record.enabled = [_UNIT]
    assert unit.remove(context) == f"disabled {_UNIT}"
    assert context.record.enabled == []


def test_a_unit_is_started_or_restarted_for_a_change_and_not_without_need(tmp_path: Path) -> None:
    programs = FakePrograms(outputs={show("ActiveState"): "inactive"})
    context, unit = context_of(tmp_path, programs), RunningUnit(_UNIT)
    assert required(unit, context).line == f"start {_UNIT} (is inactive)"
    programs.outputs = {show("ActiveState"): "active"}
    assert unit.compare(context) is None
    context.require_restarts((_UNIT,))
    assert context_of(tmp_path).pending == {_UNIT}, "also for a run after this one is killed"
    required(unit, context).apply(context)
    assert programs.changes[-1] == f"systemctl restart {_UNIT}"
    assert unit.compare(context) is None
    assert context_of(tmp_path).pending == set()


def test_a_unit_that_does_not_start_is_told_with_its_own_last_words(tmp_path: Path) -> None:
    journal = f"journalctl --no-pager --lines=20 --output=cat --unit {_UNIT}"
    programs = FakePrograms(
        outputs={
            show("ActiveState"): "failed\n",
            journal: "no such certificate\nFailed to start some.\nsome.service: Main process exited\n",
        }
    )
    context, unit = context_of(tmp_path, programs), RunningUnit(_UNIT)
    context.require_restarts((_UNIT,))
    with pytest.raises(SysregError, match=rf"{_UNIT} does not start: no such certificate; see journalctl"):
        required(unit, context).apply(context)
    assert context_of(tmp_path).pending == {_UNIT}
    programs.outputs[journal] = ""
    programs.failing = {f"systemctl restart {_UNIT}": "Job failed"}
    with pytest.raises(SysregError, match="Job failed"):
        required(unit, context).apply(context)


def test_a_socket_that_is_gone_comes_back(tmp_path: Path) -> None:
    context = context_of(tmp_path, FakePrograms(outputs={show("ActiveState"): "active"}))
    unit = RunningUnit(_UNIT, socket=tmp_path / "socket")
    assert "is gone" in required(unit, context).line
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        assert unit.compare(context) is None


def test_only_what_runs_is_stopped(tmp_path: Path) -> None:
    programs = FakePrograms(outputs={show("ActiveState"): "inactive\n"})
    context, unit = context_of(tmp_path, programs), RunningUnit(_UNIT)
    assert unit.remove(context) == ""
    programs.outputs[show("ActiveState")] = "failed\n"
    assert unit.remove(context) == f"stopped {_UNIT}"


def test_a_unit_of_others_is_restarted_if_it_runs(tmp_path: Path) -> None:
    programs = FakePrograms()
    context, unit = context_of(tmp_path, programs), TryRestart(_UNIT)
    assert unit.compare(context) is None
    context.require_restarts((_UNIT,))
    required(unit, context).apply(context)
    assert programs.changes == [f"systemctl try-restart {_UNIT}"]
    assert unit.compare(context) is None


def test_an_optional_unit_is_left_to_the_operator_and_disabled_in_a_removal(tmp_path: Path) -> None:
    programs, state = FakePrograms(), f"systemctl is-enabled {_UNIT}"
    context, unit = context_of(tmp_path, programs), OptionalUnit(_UNIT)
    programs.outputs = {state: "disabled\n", show("ActiveState"): "inactive\n"}
    assert unit.compare(context) is None
    assert unit.remove(context) == ""
    for programs.outputs in (
        {state: "enabled\n", show("ActiveState"): "inactive\n"},
        {state: "disabled\n", show("ActiveState"): "active\n"},
    ):
        assert unit.remove(context) == f"disabled {_UNIT}"
    assert programs.changes == [f"systemctl disable --now --quiet {_UNIT}"] * 2
