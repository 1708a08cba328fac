"""Trials of the registry, one at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from sysreg_cli.agent.health import trial
from sysreg_cli.errors import Conflict
from tests.unit.agent.prune.stores import settings_for
from tests.unit.agent.storage.builder import Storage


def test_a_trial_that_hangs_does_not_hold_the_others_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_TURN_SECONDS", 0.01)
    settings = settings_for(Storage(tmp_path / "storage"))
    with trial._turn, pytest.raises(Conflict, match="another test image is still under way"):
        trial.try_registry(settings)
    assert not trial._turn.locked()
