"""What a collection changes in the storage."""

from __future__ import annotations

import json
from pathlib import Path

from sysreg_cli.agent.garbage import edits
from sysreg_cli.agent.garbage.snapshot import Snapshot
from tests.unit.agent.garbage.storage import Storage


def test_pins_keep_what_they_name_and_leave_nothing_behind(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.image("app", "1", layers=(b"layer",))
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    digest = storage.blob(b"layer")
    edits.write_pin(tmp_path, {digest: 5})
    snapshot = Snapshot(tmp_path)
    (pin,) = snapshot.repositories[edits.PIN_REPOSITORY].revisions
    manifest = snapshot.manifest(pin)
    assert manifest is not None
    assert digest in manifest.references
    assert edits.remove_pins(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before
    assert not edits.remove_pins(tmp_path)


def test_a_pin_that_was_cut_short_is_removed_as_well(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    edits.write_pin(tmp_path, {storage.blob(b"layer"): 5})
    (pin,) = Snapshot(tmp_path).repositories[edits.PIN_REPOSITORY].revisions
    storage.lose(pin)
    edits.remove_pins(tmp_path)
    assert edits.PIN_REPOSITORY not in Snapshot(tmp_path).repositories


def test_an_unlinked_manifest_is_forgotten_by_its_tags_history(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    old = storage.image("app", "1", layers=(b"old",))
    new = storage.image("app", "1", layers=(b"new",))
    edits.unlink_manifests(tmp_path, {"app": [old]})
    snapshot = Snapshot(tmp_path)
    assert snapshot.repositories["app"].revisions == {new}
    assert snapshot.repositories["app"].tags == {"1": new}
    assert snapshot.tagged_time("app", old) == 0.0
    assert json.loads(storage.path(old).read_bytes())
