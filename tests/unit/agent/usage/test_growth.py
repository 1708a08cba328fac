"""How fast the storage fills, from samples."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysreg_cli.agent.usage.growth import Growth, Sample, full_on, per_day
from tests.unit.agent.prune.stores import settings_for
from tests.unit.agent.storage.builder import Storage

_HOUR, _DAY = 3600.0, 86400.0
_NOW = 1_800_000_000.0


def steady(growth: int, days: int, start: int = 10**9) -> list[Sample]:
    """Samples every six hours, of a growth of so many bytes a day, the last one now."""
    return [
        Sample(_NOW - number * _DAY / 4, start - growth * number // 4)
        for number in reversed(range(days * 4 + 1))
    ]


@given(st.integers(-(10**9), 10**9), st.integers(1, 30))
def test_a_steady_growth_is_found(growth: int, days: int) -> None:
    found = per_day(steady(growth, days), _NOW)
    assert found is not None
    assert abs(found - growth) <= 8


def test_one_large_image_and_one_collection_do_not_decide() -> None:
    samples = steady(1000, 10)
    samples[20] = samples[20]._replace(used=10**12)
    samples[30] = samples[30]._replace(used=0)
    found = per_day(samples, _NOW)
    assert found is not None
    assert 900 <= found <= 1100


@pytest.mark.parametrize(
    "samples",
    [
        [],
        steady(1000, 10)[-3:],
        [Sample(_NOW - number, number) for number in (3, 2, 1, 0)],
        [it._replace(time=it.time + 100 * _DAY) for it in steady(1000, 10)],
        [it._replace(time=it.time - 100 * _DAY) for it in steady(1000, 10)],
    ],
    ids=["none", "three", "of seconds", "of the future", "too old"],
)
def test_what_is_not_known_is_not_guessed(samples: list[Sample]) -> None:
    assert per_day(samples, _NOW) is None


def test_the_day_on_which_the_disk_is_full() -> None:
    assert full_on(10_000, 1000, _NOW) == date(2027, 1, 25)
    assert full_on(0, 1000, _NOW) == date(2027, 1, 15)
    for growth in (None, 0, -5, 1):
        assert full_on(10_000, growth, _NOW) is None


def test_a_sample_is_taken_every_six_hours_also_after_a_clock_that_was_set_back(tmp_path: Path) -> None:
    growth = Growth(settings_for(Storage(tmp_path / "storage")))
    for hours in range(49):
        growth.sample(_NOW + hours * _HOUR)
    path = tmp_path / "state/usage-samples.json"
    assert len(json.loads(path.read_text())["samples"]) == 9
    assert growth.per_day(_NOW + 48 * _HOUR) is not None
    growth.sample(_NOW - _HOUR)
    assert [when for when, _ in json.loads(path.read_text())["samples"]] == [_NOW - _HOUR]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', '{"format": 2, "samples": [[1, 2]]}'])
def test_a_damaged_file_counts_as_none(tmp_path: Path, content: str) -> None:
    growth = Growth(settings_for(Storage(tmp_path / "storage")))
    (tmp_path / "state/usage-samples.json").write_text(content)
    assert growth.per_day(_NOW) is None
    growth.sample(_NOW)
    assert len(growth._read()) == 1
