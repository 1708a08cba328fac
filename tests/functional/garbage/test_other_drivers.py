"""Storage that can't be read directly: the plan is what the collector itself says.

No such storage is at hand on a test machine, so a program of ours speaks the lines of the collector (2.8.2).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.functional.garbage.workshop import Workshop

_COLLECTOR = """#!/bin/sh
echo "app"
echo "app: marking manifest sha256:{one} "
echo "app: marking blob sha256:{two}"
echo
echo "2 blobs marked, 1 blobs and 0 manifests eligible for deletion"
echo "blob eligible for deletion: sha256:{three}"
[ "$2" = --dry-run ] || touch {swept}
"""


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    made = Workshop(tmp_path)
    made.config.write_text(made.config.read_text().replace("filesystem", "s3"))
    digests = {name: str(number) * 64 for number, name in enumerate(("one", "two", "three"))}
    made.program(monkeypatch, _COLLECTOR.format(**digests, swept=tmp_path / "swept"))
    return made


def swept(workshop: Workshop) -> bool:
    return (workshop.root / "swept").exists()


def test_a_dry_run_lists_what_the_collector_would_delete(workshop: Workshop) -> None:
    collection = workshop.collection(dry_run=True)
    result = collection.run()
    assert (result.outcome, result.blobs, result.sizes_known) == ("done", 1, False)
    assert list(collection.plan.frees) == ["sha256:" + "2" * 64]
    assert not swept(workshop)


def test_nothing_is_swept_while_pushes_under_way_cannot_be_told_from_garbage(workshop: Workshop) -> None:
    result = workshop.collect()
    assert "--grace 0" in result.error
    assert not swept(workshop)


def test_with_no_grace_time_it_is_swept_and_counted(workshop: Workshop) -> None:
    result = workshop.collect(grace=0)
    assert (result.outcome, result.blobs) == ("done", 1)
    assert swept(workshop)
    assert workshop.fence_is_open


def test_the_registrys_own_delete_untagged_is_never_used(workshop: Workshop) -> None:
    result = workshop.collect(grace=0, delete_untagged=True)
    assert "destroys multi-arch images" in result.error
    assert not swept(workshop)
