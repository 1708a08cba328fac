"""What a person sees of a running collection, and how it is ended."""

from __future__ import annotations

import pytest

from sysreg_cli.agent.garbage.recorder import Cancelled, Progress, Recorder
from sysreg_cli.errors import SysregError
from sysreg_cli.v1.collections import CollectionResult, Outcome, Phase


def test_progress_never_goes_back() -> None:
    phases = [phase for phase in Phase if phase != Phase.RECOVER]
    seen = [
        Progress.within(phase, fraction).fraction for phase in phases for fraction in (0.0, 0.5, 1.0, 2.0)
    ]
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_a_phase_and_the_collector_are_told_at_once_and_the_time_of_a_phase_adds_up() -> None:
    changes: list[tuple[str, int]] = []
    recorder = Recorder(
        CollectionResult("1"), 60, on_change=lambda it: changes.append((it.progress.phase, it.collector))
    )
    for _ in range(2):
        with recorder.phase(Phase.SWEEP):
            recorder.collector_started(7)
    assert changes == [("sweep", 0), ("sweep", 7), ("sweep", 7), ("sweep", 7)]
    assert list(recorder.end(Outcome.DONE).seconds) == ["sweep"]


def test_the_longest_hold_and_the_sum_of_all_are_recorded() -> None:
    recorder = Recorder(CollectionResult("1"), 60)
    for seconds in (2.0, 5.0, 1.0):
        recorder.count_hold(seconds)
    result = recorder.result
    assert (result.holds, result.writes_held, result.longest_hold) == (3, 8.0, 5.0)


def test_a_cancelled_or_late_collection_ends_at_its_next_phase_unless_that_must_not_be_left_out() -> None:
    cancelled, late = Recorder(CollectionResult("1"), 60), Recorder(CollectionResult("2"), -1)
    cancelled.cancelled.set()
    with pytest.raises(Cancelled), cancelled.phase(Phase.DRAIN):
        pytest.fail("went on")
    with pytest.raises(SysregError, match="did not end within"), late.phase(Phase.DRAIN):
        pytest.fail("went on")
    for recorder in (cancelled, late):
        with recorder.phase(Phase.RESTART, stoppable=False):
            pass
