"""The short form of ``python -m tests.soak.garbage``."""

from __future__ import annotations

import pytest

from devstack.controller import Controller
from tests.soak.garbage import Soak


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_pushes_and_pulls_survive_collections_that_follow_each_other(registry: Controller) -> None:
    figures = Soak(registry, slow=10, rest=3, seed=1).run(30)
    print("\n".join(figures.lines()))
    assert figures.failures == []
    assert figures.counts["pushes"] > 10
    assert any(one["blobs"] for one in figures.collections)
