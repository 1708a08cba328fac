"""Machines for the controller tests: each test boots its own, from disks that are furnished once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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


@pytest.fixture
def bare_machine(_swept: None) -> Iterator[Machine]:
    """A booted machine with nothing of ours on it."""
    with Machine() as machine:
        yield machine.boot()
