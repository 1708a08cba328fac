"""What a collection changes in the storage."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from sysreg_cli.agent.garbage import edits, planning
from sysreg_cli.agent.storage import layout
from sysreg_cli.agent.storage.snapshot import Snapshot
from tests.unit.agent.storage.builder import Storage


def test_pins_keep_what_they_name_and_leave_nothing_behind(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.image("app", "1", layers=(b"layer",))
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    digest = storage.blob(b"layer")
    edits.write_pin(tmp_path, {digest: 5})
    snapshot = Snapshot(tmp_path)
    (pin,) = snapshot.repositories[layout.PIN_REPOSITORY].revisions
    manifest = snapshot.manifest(pin)
    assert manifest is not None
    assert digest in manifest.references
    assert edits.remove_pins(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before
    assert not edits.remove_pins(tmp_path)


def test_a_pin_that_was_cut_short_is_removed_as_well(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    edits.write_pin(tmp_path, {storage.blob(b"layer"): 5})
    (pin,) = Snapshot(tmp_path).repositories[layout.PIN_REPOSITORY].revisions
    storage.lose(pin)
    edits.remove_pins(tmp_path)
    assert layout.PIN_REPOSITORY not in Snapshot(tmp_path).repositories


def test_an_unlinked_manifest_is_forgotten_by_its_tags_history(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    old = storage.image("app", "1", layers=(b"old",))
    new = storage.image("app", "1", layers=(b"new",))
    edits.unlink_manifests(tmp_path, {"app": [old]})
    snapshot = Snapshot(tmp_path)
    assert snapshot.repositories["app"].revisions == {new}
    assert snapshot.repositories["app"].tags == {"1": new}
    assert snapshot.tagged_times("app").keys() == {new}
    assert json.loads(storage.path(old).read_bytes())


def test_what_nests_deeper_than_a_program_may_recurse_is_removed(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.image("app", "1", layers=(b"layer",))
    here = os.open(storage.repositories / "app", os.O_RDONLY)
    for name in ("_uploads", *["a"] * 1500):  # Path.mkdir would recurse
        os.mkdir(name, dir_fd=here)
        inner = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    edits.remove_repositories(tmp_path, ["app"])
    assert not (storage.repositories / "app").exists()


@pytest.mark.parametrize("edit", ["manifests", "blobs", "repositories"])
def test_a_cancel_takes_effect_before_the_next_file(tmp_path: Path, edit: str) -> None:
    storage = Storage(tmp_path)
    digests = [storage.image("app", str(number), layers=(bytes([number]),)) for number in range(20)]
    steps = iter(range(10))

    def check() -> None:
        if next(steps, None) is None:
            raise KeyboardInterrupt

    work = {
        "manifests": lambda: edits.unlink_manifests(tmp_path, {"app": digests}, check),
        "blobs": lambda: edits.remove_blobs(tmp_path, digests, check),
        "repositories": lambda: edits.remove_repositories(tmp_path, ["app"], check),
    }
    with pytest.raises(KeyboardInterrupt):
        work[edit]()
    snapshot = Snapshot(tmp_path)
    there = {"manifests": snapshot.repositories["app"].revisions, "blobs": snapshot.blobs.keys()}
    assert len(there.get(edit, {*digests}) & {*digests}) >= 10


@pytest.mark.parametrize("kind", ["file", "itself", "nowhere", "."])
def test_what_is_in_the_place_of_a_directory_ends_no_edit(tmp_path: Path, kind: str) -> None:
    def build(root: Path) -> Storage:
        storage = Storage(root)
        storage.image("app", "1", layers=(b"one",))
        storage.image("app", layers=(b"untagged",))
        storage.delete("app/sub", storage.image("app/sub", layers=(b"gone",)))
        return storage

    top = build(tmp_path / "template").base
    places = sorted(path.relative_to(top) for path in top.rglob("*") if path.is_dir())
    for number, place in enumerate(place for place in places if len(place.parts) > 1):
        storage = build(tmp_path / str(number))
        path = storage.base / place
        shutil.rmtree(path)
        if kind == "file":
            path.touch()
        else:
            path.symlink_to(path.name if kind == "itself" else kind)
        plan = planning.make(Snapshot(storage.root), now=time.time(), grace=0, delete_untagged=True)
        edits.unlink_manifests(storage.root, plan.manifests)
        if not plan.obstacle:
            edits.remove_blobs(storage.root, plan.blobs)
        edits.remove_repositories(storage.root, plan.repositories)
        edits.remove_pins(storage.root)
