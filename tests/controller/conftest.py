"""Machines for the controller tests: each test boots its own, from disks that are furnished once a run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devstack.keystone import RunningKeystone
from tests.controller.furnish import configure, wait_until_served
from tests.controller.machine import Machine, cannot_boot, sweep_leftovers
from tests.controller.workshop import Workshop, workshop


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
def machines(_swept: None, testrun_uid: str, keystone: RunningKeystone) -> Iterator[Workshop]:
    """Makes machines: for tests that need more than one."""
    with workshop(testrun_uid, keystone) as made:
        yield made


@pytest.fixture
def installed(machines: Workshop) -> Iterator[Machine]:
    """A booted machine with our wheel, configured, and nothing deployed."""
    with machines.installed() as machine:
        configure(machine.boot())
        yield machine


@pytest.fixture
def deployed(machines: Workshop) -> Iterator[Machine]:
    """A booted controller that serves."""
    with machines.deployed() as machine:
        wait_until_served(machine.boot())
        yield machine


@pytest.fixture
def bare_machine(_swept: None) -> Iterator[Machine]:
    """A booted machine with nothing of ours on it."""
    with Machine() as machine:
        yield machine.boot()
