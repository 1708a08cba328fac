"""The short form of `make soak`: a quarter of a minute of mixed load."""

import pytest

from devstack.controller import Controller
from tests.soak import tokens


@pytest.mark.soak
def test_under_mixed_load_every_answer_is_right_and_memory_stays(controller: Controller) -> None:
    report = tokens.run(controller, 12)
    assert report.errors == []
    assert set(report.answers) > {"pull", "push", "post", "wrong password", "nonsense"}
    # So short a run only shows a leak of a kilobyte a request.
    assert report.memory[-1] < report.memory[0] + 20
