"""The checks of space: which file system is low, and which remedy makes room there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sysreg_cli.errors import Unavailable
from sysreg_cli.health import storage
from sysreg_cli.health.readings import Agent, Readings
from sysreg_cli.health.results import Result, Status
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
