"""The checks of space: which file system is low, and which remedy makes room there."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from sysreg_cli.errors import Unavailable
from sysreg_cli.health import storage
from sysreg_cli.health.readings import Agent, Readings
from sysreg_cli.health.results import Result, Skipped, Status
from sysreg_cli.host.registry_config import RegistryConfig
from sysreg_cli.settings import PathSettings, Settings

IMAGES, STATE = Path("/images"), Path("/var/lib/sysreg")


def no_agent() -> Agent:
    raise Unavailable("no agent")


def room(monkeypatch: pytest.MonkeyPatch, free: dict[Path, int]) -> Result:
    """The check of space where so many of 1,000 blocks are free."""

    def statvfs(path: Path) -> Any:
        values = {"f_bavail": free[path], "f_blocks": 1000, "f_frsize": 1_000_000}
        return type("Disk", (), values)

    monkeypatch.setattr(os, "statvfs", statvfs)
    readings = Readings(Settings(paths=PathSettings(state=STATE)), no_agent)
    readings.storage_root = lambda: IMAGES  # type: ignore[method-assign]
    return storage.space(readings)


@pytest.mark.parametrize(
    ("free", "status", "command"),
    [
        ({IMAGES: 500, STATE: 500}, Status.OK, ""),
        ({IMAGES: 99, STATE: 500}, Status.WARNING, "system registry-garbage-collect"),
        ({IMAGES: 9, STATE: 9}, Status.FAILED, "system registry-garbage-collect"),
        ({IMAGES: 500, STATE: 9}, Status.FAILED, "sort -h | tail"),
        ({IMAGES: 99, STATE: 50}, Status.WARNING, "sort -h | tail"),
    ],
)
def test_the_remedy_is_for_the_file_system_that_is_low(
    monkeypatch: pytest.MonkeyPatch, free: dict[Path, int], status: Status, command: str
) -> None:
    found = room(monkeypatch, free)
    assert found.status is status
    assert found.detail.endswith(command)
    if free[IMAGES] == free[STATE]:
        assert found.what.count("GB") == 1, "one file system is said once"


def test_who_holds_the_write_lock_is_said_also_while_the_agent_does_not_answer(tmp_path: Path) -> None:
    readings = Readings(Settings(), no_agent)

    def skipped() -> Agent:
        raise Skipped("the agent does not answer")

    readings.agent_calls = skipped  # type: ignore[method-assign]
    path = tmp_path / "write-fence"
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = storage._held(readings, path)
    assert found.status is Status.FAILED
    assert f"kill {os.getpid()}" in found.detail


def test_only_variables_that_are_the_cause_are_to_be_removed() -> None:
    def remedy(*variables: str) -> str:
        environment = dict.fromkeys(variables, "x")
        config = RegistryConfig(Path("c"), "filesystem", Path("/"), environment=environment)
        return storage._without_variables(config).text

    assert "REGISTRY_STORAGE_DELETE_ENABLED" in remedy(
        "REGISTRY_STORAGE_DELETE_ENABLED", "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY"
    )
    assert "ROOTDIRECTORY" not in remedy(
        "REGISTRY_STORAGE_DELETE_ENABLED", "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY"
    )
    assert "REGISTRY" not in remedy("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY")
