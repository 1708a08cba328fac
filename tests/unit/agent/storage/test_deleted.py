"""Which deleted tags are found in a storage, and whether they can be restored."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sysreg_cli.agent.storage.deleted import DeletedTag, deleted_tags, is_restored, needs, why_lost
from sysreg_cli.agent.storage.snapshot import Snapshot
from sysreg_cli.registry.manifests import placeholder
from tests.unit.agent.storage.builder import Storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path)


def found(storage: Storage) -> list[DeletedTag]:
    snapshot = Snapshot(storage.root)
    return deleted_tags(snapshot, snapshot.repositories["app"])


def lost(storage: Storage) -> str:
    snapshot = Snapshot(storage.root)
    (deleted,) = deleted_tags(snapshot, snapshot.repositories["app"])
    return why_lost(snapshot, snapshot.repositories["app"], deleted)


def test_a_deleted_index_is_found_with_all_that_it_needs(storage: Storage) -> None:
    image = storage.image("app", layers=(b"layer",))
    index = storage.index("app", "v1", children=(image,))
    storage.image("app", "v2", layers=(b"other",))
    before = storage.all_blobs()
    kept = {storage.tag("app", "v2").read_text()}
    record = storage.delete_tag("app", "v1")
    (deleted,) = found(storage)
    assert (deleted.tag, deleted.record, deleted.by) == ("v1", record, "somebody")
    assert deleted.manifests == (index, image)
    assert lost(storage) == ""
    needed = needs(Snapshot(storage.root), deleted)
    assert record in needed
    assert needed - {record} < before
    assert kept.isdisjoint(needed)


def test_the_time_of_a_delete_is_never_after_the_file(storage: Storage) -> None:
    storage.image("app", "v1")
    storage.delete_tag("app", "v1")
    # the record says now, and the file is two hours old
    assert found(storage)[0].at == pytest.approx(time.time() - storage.age, abs=60)


def test_a_tag_whose_delete_has_not_ended_is_found(storage: Storage) -> None:
    image = storage.image("app", "v1", layers=(b"layer",))
    record = storage.put("app", placeholder({"v1": (image,)}).document, "v1")
    assert [(it.record, it.root) for it in found(storage)] == [(record, image)]
    storage.delete("app", image)
    assert lost(storage) == ""


def test_a_tag_that_stands_for_its_image_again_is_restored(storage: Storage) -> None:
    image = storage.image("app", "v1", layers=(b"layer",))
    storage.delete_tag("app", "v1")
    assert storage.image("app", "v1", layers=(b"layer",)) == image
    snapshot = Snapshot(storage.root)
    assert is_restored(snapshot.repositories["app"], found(storage)[0])


@pytest.mark.parametrize("what", ["manifest", "layer"])
def test_what_is_not_stored_any_more_is_named(storage: Storage, what: str) -> None:
    image = storage.image("app", "v1", layers=(b"layer",))
    layer = storage.upload("app", b"layer")
    storage.delete_tag("app", "v1")
    missing = image if what == "manifest" else layer
    storage.lose(missing)
    assert f"{missing} is not stored any more" in lost(storage)


def test_damage_is_told_and_not_restored(storage: Storage) -> None:
    image = storage.image("app", "v1", layers=(b"layer",))
    layer = storage.upload("app", b"layer")
    storage.delete_tag("app", "v1")
    storage.path(layer).write_bytes(b"cut")
    assert lost(storage) == f"blob {layer} is damaged"
    storage.path(layer).write_bytes(b"layer")
    storage.path(image).write_bytes(b"")
    assert lost(storage) == f"manifest {image} is damaged"


def test_a_record_of_manifests_that_the_repository_never_had_is_of_no_use(storage: Storage) -> None:
    other = storage.image("secret", "v1", layers=(b"layer",))
    storage.upload("app", b"layer")
    record = storage.put("app", placeholder({"v1": (other,)}).document)
    storage.delete("app", record)
    assert lost(storage) == f"manifest {other} is not stored any more"


def test_a_damaged_record_is_none(storage: Storage) -> None:
    storage.image("app", "v1")
    record = storage.delete_tag("app", "v1")
    data = storage.path(record).read_bytes()
    storage.path(record).write_bytes(data.replace(b"somebody", b"anybody!"))
    assert found(storage) == []
