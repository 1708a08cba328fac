"""What a later agent finds on disk, whatever its version."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sysreg_cli.agent.garbage.records import MAX_RESULTS, Deletion, History, RunningCollection
from sysreg_cli.v1.collections import CollectionOptions, CollectionResult, Outcome


def test_history_survives_and_keeps_the_latest_results(tmp_path: Path) -> None:
    directory = tmp_path / "garbage"
    history = History.load(directory)
    for number in range(MAX_RESULTS + 2):
        options = CollectionOptions(grace=float(number))
        history.end(CollectionResult(str(number), options, "then", warnings=("w",) * 200))
    history.running = RunningCollection("last", CollectionOptions(dry_run=True), "now")
    history.save(directory)
    again = History.load(directory)
    assert again.running == history.running
    assert again.results == history.results
    assert [result.id for result in again.results][:2] == [str(MAX_RESULTS + 1), str(MAX_RESULTS)]
    assert len(again.results) == MAX_RESULTS
    assert again.results[0].warnings[-1] == "and 100 more"


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"running": 7, "results": []}', '{"results": [{"id": 1}]}']
)
def test_a_damaged_history_is_forgotten(tmp_path: Path, damage: str) -> None:
    directory = tmp_path / "garbage"
    directory.mkdir()
    (directory / "history.json").write_text(damage)
    assert History.load(directory).running is None


def test_what_was_to_be_freed_is_remembered_until_it_is_forgotten(tmp_path: Path) -> None:
    assert Deletion.load(tmp_path) == {}
    Deletion.save(tmp_path, 7.25, ["sha256:1", "sha256:2"])
    Deletion.save(tmp_path, 8.5, ["sha256:2"])
    assert Deletion.load(tmp_path) == {"sha256:2": 8.5}
    Deletion.remove(tmp_path)
    Deletion.remove(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"sha256:1\n", b"\xff\n", b"{}", b'{"scanned": "now"}'])
def test_a_damaged_memory_of_what_was_to_be_freed_is_none(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "freeing").write_bytes(damage)
    assert Deletion.load(tmp_path) == {}


def test_records_of_another_version_are_understood(tmp_path: Path) -> None:
    """After a downgrade or an upgrade, a running collection still has to be recovered."""
    options = {"dry_run": False, "delete_untagged": True, "grace": 3600, "new": 1}
    running = {"id": "2", "options": options, "started": "now", "phase": "burn", "collector": 7, "new": 1}
    result = {"id": "1", "options": options, "started": "then", "outcome": "done", "new": {}}
    (tmp_path / "history.json").write_text(
        json.dumps({"format": 2, "running": running, "results": [result], "new": []})
    )
    history = History.load(tmp_path)
    wanted = CollectionOptions(delete_untagged=True, grace=3600.0)
    assert history.running == RunningCollection("2", wanted, "now", phase="burn", collector=7)
    assert history.results == (CollectionResult("1", wanted, "then", Outcome.DONE),)
    record = {"format": 2, "scanned": 7, "digests": ["sha256:1"], "new": 1}
    (tmp_path / "freeing").write_text(json.dumps(record))
    assert Deletion.load(tmp_path) == {"sha256:1": 7.0}


def test_the_records_tell_their_format(tmp_path: Path) -> None:
    History().save(tmp_path)
    Deletion.save(tmp_path, 1.0, [])
    for name in ("history.json", "freeing"):
        assert json.loads((tmp_path / name).read_bytes())["format"] == 1
