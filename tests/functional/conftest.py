"""The embedded controller for functional tests: one for the whole session, others as a test needs them."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager

import pytest

from devstack.controller import Controller


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if "tests/functional/" in item.path.as_posix()]
    for item in here:
        item.add_marker(pytest.mark.functional)
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="the embedded controller needs root"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failed test what its controllers' programs wrote last."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Controller):
                for program in value.programs:
                    last = value.log(program).splitlines()[-25:]
                    report.sections.append((f"end of the log of {program}", "\n".join(last)))
    return report


@pytest.fixture(scope="session")
def controller() -> Iterator[Controller]:
    """The shared controller. Leave it as you found it: no stopped program, no changed setting.

    Tests keep apart by repositories of their own names.
    """
    with Controller.temporary() as controller:
        yield controller


@pytest.fixture(scope="session")
def new_controller() -> Callable[..., AbstractContextManager[Controller]]:
    """``with new_controller(keystone={...}) as controller``: one of the test's own, up in a few seconds."""
    return Controller.temporary
