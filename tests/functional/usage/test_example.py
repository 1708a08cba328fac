"""The commands in docs/space.rst print what it shows."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from devstack.controller import Controller
from tests.examples import check, script_of, steps_of
from tests.functional.garbage.conftest import registry, shared
from tests.functional.usage.example import build

__all__ = ["registry", "shared"]  # fixtures: an empty registry of its own

_DOCUMENT = Path(__file__).parents[3] / "docs/space.rst"


@pytest.mark.timeout(120)
def test_every_command_of_the_example_prints_what_it_shows(registry: Controller) -> None:
    build(registry.paths.storage)
    subprocess.run(["chown", "-R", "docker-registry:", registry.paths.storage / "docker"], check=True)
    steps = list(steps_of(_DOCUMENT.read_text()))
    assert len(steps) > 8
    check(steps, registry.run(["bash", "-c", script_of(steps, "")]).stdout)
