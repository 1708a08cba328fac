"""The embedded controller for functional tests: one for the whole session, others as a test needs them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import pytest

from devstack.controller import Controller
from devstack.keystone import RunningKeystone
from devstack.options import Options


class NewController(Protocol):
    """``with new_controller(Options(netns=True)) as controller``: a controller of the test's own."""

    def __call__(
        self, options: Options = ..., *, own_keystone: bool = False
    ) -> AbstractContextManager[Controller]:
        """Start it. A test that stops Keystone, or has other settings for it, needs ``own_keystone``."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if "tests/functional/" in item.path.as_posix()]
    for item in here:
        item.add_marker(pytest.mark.functional)
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="the embedded controller needs root"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the last output of its controllers' programs with a failed test."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Controller):
                for program in value.programs:
                    last = value.log(program).splitlines()[-25:]
                    report.sections.append((f"end of the log of {program}", "\n".join(last)))
    return report


@pytest.fixture(scope="session")
def new_controller(keystone: RunningKeystone) -> NewController:
    def start(
        options: Options = Options(),  # noqa: B008 - it is frozen
        *,
        own_keystone: bool = False,
    ) -> AbstractContextManager[Controller]:
        if not own_keystone:
            options = dataclasses.replace(options, running_keystone=keystone)
        return Controller.temporary(options)

    return start


@pytest.fixture(scope="session")
def controller(new_controller: NewController) -> Iterator[Controller]:
    """The shared controller. Leave it as you found it: no stopped program, no changed setting.

    Each test uses repositories of its own names.
    """
    with new_controller() as controller:
        yield controller
