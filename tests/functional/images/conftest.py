"""Fixtures of the tests of images."""

from __future__ import annotations

import pytest

from devstack.client import IndependentClient
from devstack.controller import Controller


@pytest.fixture
def registry(controller: Controller) -> IndependentClient:
    return controller.client()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A repository that no other test uses."""
    return f"delete/{request.node.name.split('[')[0].replace('test_', '').replace('_', '-')}"
