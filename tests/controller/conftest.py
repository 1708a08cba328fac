"""Machines for the controller tests: each test boots its own, from disks that are furnished once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.controller.furnish import configure, furnish, wait_until_served
from tests.controller.machine import Machine, cannot_boot, sweep_leftovers


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if "tests/controller/" in item.path.as_posix()]
    reason = cannot_boot() if here else ""
    for item in here:
        item.add_marker(pytest.mark.controller)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def _swept() -> None:
    sweep_leftovers()


@pytest.fixture(scope="session")
def installed_disk(_swept: None) -> Iterator[Path]:
    """The disk of a machine with our wheel and Keystone, and nothing deployed."""
    with Machine() as machine:
        furnish(machine.boot())
        machine.power_off()
        yield machine.disk


@pytest.fixture(scope="session")
def deployed_disks(installed_disk: Path) -> Iterator[list[Path]]:
    """The disks of a controller on which sysreg-deploy was run, uppermost first."""
    with Machine(lower=[installed_disk]) as machine:
        machine.boot()
        configure(machine)
        machine.run("/opt/sysreg/bin/sysreg-deploy")
        machine.power_off()
        yield [machine.disk, installed_disk]


@pytest.fixture
def installed(installed_disk: Path) -> Iterator[Machine]:
    """A booted machine with our wheel and Keystone, configured, and nothing deployed."""
    with Machine(lower=[installed_disk]) as machine:
        machine.boot()
        configure(machine)
        yield machine


@pytest.fixture
def deployed(deployed_disks: list[Path]) -> Iterator[Machine]:
    """A booted controller that serves."""
    with Machine(lower=deployed_disks) as machine:
        machine.boot()
        wait_until_served(machine)
        yield machine


@pytest.fixture
def bare_machine(_swept: None) -> Iterator[Machine]:
    """A booted machine with nothing of ours on it."""
    with Machine() as machine:
        yield machine.boot()
