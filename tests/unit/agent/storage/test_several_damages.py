"""Damage that is in the way of the remedy of another: what a collection says first, and what it frees."""

from __future__ import annotations

from pathlib import Path

import pytest

from sysreg_cli.agent.storage.damage import Remedy
from tests.unit.agent.storage.builder import Storage
from tests.unit.agent.storage.test_damage import plan


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path)


def _link_to_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _layer_link(storage: Storage, data: bytes) -> Path:
    return storage.repositories / "app/_layers" / storage.blob(data).replace(":", "/") / "link"


def test_a_link_of_a_layer_that_is_no_file_is_named_beside_a_manifest_that_nobody_can_read(
    storage: Storage,
) -> None:
    digest = storage.image("app", "1", layers=(b"layer",))
    storage.path(digest).write_bytes(b"")
    _link_to_nowhere(_layer_link(storage, b"layer"))
    assert [damage.remedy for damage in plan(storage).damages] == [
        Remedy.REMOVE_STRAY,
        Remedy.DELETE_MANIFEST,
    ]


def test_a_link_of_a_layer_that_is_no_file_keeps_nothing(storage: Storage) -> None:
    storage.image("app", "1", layers=(b"one",))
    storage.delete("app", storage.image("app", layers=(b"gone",)))
    _link_to_nowhere(_layer_link(storage, b"gone"))
    assert storage.blob(b"gone") in plan(storage, grace=0).blobs


def test_what_is_in_the_history_of_a_tag_whose_link_is_damaged_is_named_first(storage: Storage) -> None:
    digest = storage.image("app", "1", layers=(b"layer",))
    storage.tag("app", "1").write_bytes(b"sha256:")
    digits = digest.replace(":", "/")
    history = storage.repositories / f"app/_manifests/tags/1/index/{digits}/link"
    _link_to_nowhere(history)
    first, second = plan(storage).damages
    assert (first.remedy, first.path) == (Remedy.REMOVE_STRAY, str(history))
    assert (second.remedy, second.tags) == (Remedy.PUSH, ("1",))


@pytest.mark.parametrize("target", [".", "..", "../.."])
def test_a_blob_that_leads_to_a_place_among_the_blobs_is_named_with_its_tag(
    storage: Storage, target: str
) -> None:
    storage.image("app", "1", layers=(b"layer",))
    blob = storage.path(storage.blob(b"layer")).parent
    storage.lose(storage.blob(b"layer"))
    blob.parent.mkdir(exist_ok=True)
    blob.symlink_to(target)
    (damage,) = plan(storage).damages
    assert (damage.remedy, damage.path, damage.tags) == (Remedy.REMOVE_FILE, str(blob), ("1",))


def test_a_blob_that_is_no_file_is_named_also_if_nobody_can_say_who_needs_it(storage: Storage) -> None:
    digest = storage.image("app", "1", layers=(b"layer",))
    storage.path(digest).write_bytes(b"")
    data = storage.path(storage.blob(b"layer"))
    _link_to_nowhere(data)
    assert [damage.path for damage in plan(storage).damages] == [str(data), ""]


def test_a_tag_that_has_to_be_deleted_is_not_to_be_pushed_before(storage: Storage) -> None:
    """The registry would refuse the push, or take the damaged layer as good."""
    storage.image("app", "1", "again", layers=(b"damaged", b"lost"))
    storage.image("app", "2", layers=(b"lost",))
    storage.path(storage.blob(b"damaged")).write_bytes(b"longer than it was")
    storage.lose(storage.blob(b"lost"))
    remedies = {damage.remedy: damage.tags for damage in plan(storage).damages}
    assert remedies == {Remedy.DELETE_TAGS: ("1", "again"), Remedy.PUSH: ("2",)}


def test_what_the_registry_serves_in_place_of_a_manifest_is_kept(storage: Storage) -> None:
    tagged = storage.image("app", "1", layers=(b"one",))
    other = storage.image("app", layers=(b"other",))
    storage.revision("app", tagged).write_text(other)
    made = plan(storage, delete_untagged=True, grace=0)
    assert made.manifests == {}
    assert {other, storage.blob(b"other")}.isdisjoint(made.blobs)


def test_a_damaged_layer_goes_also_beside_a_manifest_that_is_missing(storage: Storage) -> None:
    """The missing one may need each layer of its repository, but not one that no push would store."""
    storage.delete("app", storage.image("app", layers=(b"damaged",)))
    storage.path(storage.blob(b"damaged")).write_bytes(b"longer than it was")
    storage.lose(storage.image("app", "1", layers=(b"one",)))
    made = plan(storage)
    assert storage.blob(b"damaged") in made.blobs
    assert storage.blob(b"one") in made.pins
