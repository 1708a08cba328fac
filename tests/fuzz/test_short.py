"""The short form of `make fuzz`: the same target and mutations, a few hundred of them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.fuzz import against_go
from tests.fuzz.mutate import mutate, seeds
from tests.fuzz.target import one_input, outcomes

MUTATIONS = 250
ROOT = Path(__file__).parents[2]


def test_every_seed_has_an_outcome_and_most_are_accepted() -> None:
    outcomes.clear()
    for seed in seeds():
        one_input(seed)
    assert outcomes["chain accepted"] == 6
    assert outcomes["authorities accepted"] == 1


def test_bent_bundles_are_accepted_or_refused() -> None:
    outcomes.clear()
    for number in range(MUTATIONS):
        random = Random(number)
        data = random.choice(seeds())
        for _ in range(random.choice([1, 3])):
            data = mutate(data, random)
        try:
            one_input(data)
        except BaseException as error:
            error.add_note(f"mutation {number}: {data!r}")
            raise
    assert outcomes["chain refused"] > outcomes["chain accepted"] > 0


def test_what_is_accepted_of_bent_certificates_go_accepts_too() -> None:
    accepted, refused = against_go.run(4.0, seed=1)
    assert accepted > 3
    assert refused == []


@pytest.mark.skipif(not importlib.util.find_spec("atheris"), reason="atheris has no wheel for this Python")
def test_the_coverage_guided_fuzzer_starts_and_finds_nothing(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.run", "--seconds", "3", "--work", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert "nothing found" in run.stdout
