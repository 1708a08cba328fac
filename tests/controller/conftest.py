"""Machines for the controller tests: each test boots its own, from disks that are made once for each run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devstack.keystone import RunningKeystone
from tests.controller import debian_root
from tests.controller.installation import configure, wait_until_served
from tests.controller.machine import Machine, cannot_boot, sweep_leftovers
from tests.controller.machine_factory import MachineFactory, machine_factory


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
def machines(_swept: None, testrun_uid: str, keystone: RunningKeystone) -> Iterator[MachineFactory]:
    """Makes machines, for tests that need more than one."""
    with machine_factory(testrun_uid, keystone) as made:
        yield made


@pytest.fixture
def release(request: pytest.FixtureRequest) -> str:
    """The release of Debian that machines have; see ``debian_root.ON_BOTH``."""
    return str(getattr(request, "param", debian_root.HOST))


@pytest.fixture
def installed(machines: MachineFactory, release: str) -> Iterator[Machine]:
    """A booted machine with sysreg and settings, on which nothing is deployed."""
    with machines.installed(release) as machine:
        configure(machine.boot())
        yield machine


@pytest.fixture
def deployed(machines: MachineFactory, release: str) -> Iterator[Machine]:
    """A booted controller on which registry, token server and Keystone work."""
    with machines.deployed(release) as machine:
        wait_until_served(machine.boot())
        yield machine


@pytest.fixture
def bare_machine(_swept: None) -> Iterator[Machine]:
    """A booted machine on which nothing is installed."""
    with Machine() as machine:
        yield machine.boot()
