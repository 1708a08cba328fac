"""The plan for storages as pushes, deletes and accidents leave them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from sysreg_cli.agent.garbage import planning
from sysreg_cli.agent.garbage.planning import SweepPlan
from sysreg_cli.agent.storage.snapshot import Snapshot
from sysreg_cli.registry.manifests import placeholder
from tests.unit.agent.storage.builder import DOCKER_LIST, DOCKER_MANIFEST, Storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path)


def plan(
    storage: Storage,
    *,
    delete_untagged: bool = False,
    grace: float = 3600,
    dereferenced: Mapping[str, float] | None = None,
    keep_deleted: float = 0,
) -> SweepPlan:
    return planning.make(
        Snapshot(storage.root),
        now=time.time(),
        grace=grace,
        delete_untagged=delete_untagged,
        dereferenced=dereferenced,
        keep_deleted=keep_deleted,
    )


def damages(made: SweepPlan) -> list[str]:
    """What is damaged, without the remedies."""
    return [str(damage).partition("; ")[0] for damage in made.damages]


def survivors(storage: Storage, *, delete_untagged: bool = False) -> set[str]:
    return storage.all_blobs() - plan(storage, delete_untagged=delete_untagged).blobs.keys()


def everything_of(storage: Storage, *digests: str) -> set[str]:
    """The blobs that images need, found without the code under test."""
    import json

    found: set[str] = set()
    for digest in digests:
        document = json.loads(storage.path(digest).read_bytes())
        found |= {digest, *everything_of(storage, *(m["digest"] for m in document.get("manifests", ())))}
        found |= {layer["digest"] for layer in document.get("layers", ())}
        found |= {document["config"]["digest"]} if "config" in document else set()
    return found


def test_a_storage_nothing_was_pushed_to_has_nothing_to_do(storage: Storage) -> None:
    assert plan(storage).nothing_to_do
    assert not plan(storage).obstacle
    assert damages(plan(storage)) == []


def test_a_missing_storage_directory_is_an_error_and_not_an_empty_registry(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError):
        Snapshot(tmp_path / "gone")


def test_a_deleted_image_goes_and_what_it_shares_with_another_stays(storage: Storage) -> None:
    kept = storage.image("app", "1", layers=(b"base", b"one"))
    gone = storage.image("app", "2", layers=(b"base", b"two, and longer"))
    storage.delete("app", gone)
    made = plan(storage)
    assert storage.all_blobs() - made.blobs.keys() == everything_of(storage, kept)
    assert made.blobs[storage.blob(b"two, and longer")] == len(b"two, and longer")
    assert sum(made.blobs.values()) == sum(storage.path(digest).stat().st_size for digest in made.blobs)


def test_an_image_deleted_a_moment_ago_is_freed_at_once(storage: Storage) -> None:
    storage.age = 5
    gone = storage.image("app", "1", layers=(b"layer",))
    storage.delete("app", gone)
    made = plan(storage)
    assert made.blobs.keys() == storage.all_blobs()
    assert made.repositories == ["app"]


def test_a_layer_of_a_push_under_way_is_pinned_until_the_grace_time_is_over(storage: Storage) -> None:
    storage.age = 100
    layer = storage.upload("app", b"layer of a push under way")
    assert plan(storage).pins.keys() == {layer}
    assert plan(storage).repositories == []
    late = plan(storage, grace=50)
    assert late.blobs.keys() == {layer}
    assert late.repositories == ["app"]


def test_a_layer_of_a_deleted_image_that_is_being_pushed_again_is_pinned(storage: Storage) -> None:
    """The registry doesn't store it a second time: only the link in the repository is new."""
    storage.age = 2000
    layer = storage.upload("app", b"layer")
    gone = storage.image("app", "1", layers=(b"layer",))
    storage.delete("app", gone)
    assert layer in plan(storage).blobs
    storage.age = 10
    storage.upload("other", b"layer")
    made = plan(storage)
    assert made.pins.keys() == {layer}
    assert "other" not in made.repositories


def test_what_an_interrupted_collection_had_decided_to_free_is_freed_unless_it_was_pushed_again(
    storage: Storage,
) -> None:
    """It had removed the manifest, so nothing else tells its layers from those of a push under way."""
    storage.age = 100
    left = {storage.upload("app", b"one"), storage.upload("app", b"two")}
    assert plan(storage).pins.keys() == left
    earlier = dict.fromkeys(left, time.time() - 50)
    made = plan(storage, dereferenced=earlier)
    assert (set(made.blobs), made.repositories) == (left, ["app"])
    storage.age = 10
    again = storage.upload("other", b"two")
    made = plan(storage, dereferenced=earlier)
    assert (set(made.blobs), set(made.pins)) == (left - {again}, {again})


def test_a_repository_whose_blobs_an_interrupted_collection_removed_is_empty(storage: Storage) -> None:
    storage.age = 100
    gone = storage.upload("app", b"layer")
    storage.lose(gone)
    assert plan(storage).repositories == []
    assert plan(storage, dereferenced={gone: time.time() - 50}).repositories == ["app"]


def test_what_tags_need_is_never_freed_however_it_is_wrapped(storage: Storage) -> None:
    amd = storage.image("app", layers=(b"amd",))
    arm = storage.image("app", layers=(b"arm",))
    attestation = storage.image("app", layers=(b"provenance",), kind=DOCKER_MANIFEST)
    index = storage.index("app", "oci", children=(amd, arm, attestation))
    listed = storage.index("app", "docker", "again", children=(amd, arm), kind=DOCKER_LIST)
    nested = storage.index("app", "nested", children=(storage.index("app", children=(arm,)),))
    needed = everything_of(storage, index, listed, nested)
    orphan = storage.image("app", "docker-old", layers=(b"orphan",))
    storage.delete("app", orphan)
    assert survivors(storage, delete_untagged=True) == needed
    assert plan(storage, delete_untagged=True).needed == needed


def test_referrers_of_kept_manifests_are_kept_and_those_of_others_are_not(storage: Storage) -> None:
    image = storage.image("app", "1", layers=(b"layer",))
    signature = storage.image("app", layers=(b"signature",), subject=image)
    of_signature = storage.image("app", layers=(b"countersignature",), subject=signature)
    untagged = storage.image("app", layers=(b"untagged",))
    storage.image("app", layers=(b"signature of it",), subject=untagged)
    kept = everything_of(storage, image, signature, of_signature)
    assert survivors(storage, delete_untagged=True) == kept
    assert survivors(storage) == storage.all_blobs()


def test_a_manifest_orphaned_by_moving_its_tag_goes_with_delete_untagged_alone(storage: Storage) -> None:
    storage.age = 20
    old = storage.image("app", "latest", layers=(b"old",))
    new = storage.image("app", "latest", layers=(b"new",))
    assert plan(storage).nothing_to_do
    made = plan(storage, delete_untagged=True)
    assert made.manifests == {"app": [old]}
    assert storage.all_blobs() - made.blobs.keys() == everything_of(storage, new)


def test_platforms_pushed_before_their_index_are_kept_until_the_grace_time_is_over(storage: Storage) -> None:
    storage.age = 100
    storage.image("app", layers=(b"amd",))
    assert plan(storage, delete_untagged=True).nothing_to_do
    assert plan(storage, delete_untagged=True, grace=50).blobs.keys() == storage.all_blobs()


def test_platforms_of_an_index_that_was_replaced_go_with_it_and_the_index_goes_first(
    storage: Storage,
) -> None:
    storage.age = 50
    amd = storage.image("app", layers=(b"amd",))
    first = storage.index("app", "1", children=(amd,))
    second = storage.image("app", "1", layers=(b"second",))
    made = plan(storage, delete_untagged=True)
    assert made.manifests == {"app": [first, amd]}
    assert storage.all_blobs() - made.blobs.keys() == everything_of(storage, second)


def test_platforms_of_an_index_that_was_deleted_go_with_delete_untagged(storage: Storage) -> None:
    storage.age = 50
    amd = storage.image("app", layers=(b"amd",))
    storage.delete("app", storage.index("app", "1", children=(amd,)))
    assert plan(storage, delete_untagged=True).manifests == {"app": [amd]}


def test_repositories_that_hold_nothing_go_and_those_nested_in_them_stay(storage: Storage) -> None:
    storage.delete("a", storage.image("a", "1", layers=(b"a",)))
    storage.image("a/b", "1", layers=(b"b",))
    storage.delete("a/b/c", storage.image("a/b/c", "1", layers=(b"c",)))
    storage.delete("u", storage.image("u", "1", layers=(b"u",)))
    (storage.repositories / "u/_uploads/some-id").mkdir(parents=True)
    assert plan(storage).repositories == ["a", "a/b/c"]


def test_a_missing_layer_is_named_with_its_tag_and_doesnt_stop_anything(storage: Storage) -> None:
    storage.image("app", "1", layers=(b"one", b"two"))
    storage.delete("app", storage.image("app", "2", layers=(b"three",)))
    lost = storage.blob(b"two")
    storage.lose(lost)
    made = plan(storage)
    assert damages(made) == [f"app:1: blob {lost} is missing"]
    assert storage.blob(b"three") in made.blobs
    assert not made.obstacle


def test_a_missing_platform_of_an_index_is_named(storage: Storage) -> None:
    amd = storage.image("app", layers=(b"amd",))
    storage.index("app", "1", children=(amd,))
    storage.lose(amd)
    assert damages(plan(storage)) == [f"app:1: manifest {amd} is missing"]


def test_a_foreign_layer_need_not_be_here(storage: Storage) -> None:
    config = storage.upload("app", b"{}")
    foreign = {"mediaType": "x", "digest": "sha256:" + "0" * 64, "size": 1, "urls": ["https://example.com"]}
    storage.put("app", {"schemaVersion": 2, "config": {"digest": config}, "layers": [foreign]}, "1")
    assert damages(plan(storage)) == []


def test_an_empty_tag_link_is_named_and_the_manifest_it_may_have_meant_stays(storage: Storage) -> None:
    storage.image("app", "1", layers=(b"layer",))
    storage.tag("app", "1").write_bytes(b"")
    made = plan(storage, delete_untagged=True)
    assert damages(made) == ["app:1: the tag's link is damaged"]
    assert made.nothing_to_do


def test_an_empty_revision_link_that_no_tag_needs_goes_with_delete_untagged(storage: Storage) -> None:
    storage.image("app", "1", layers=(b"layer",))
    digest = storage.image("app", layers=(b"untagged",))
    storage.revision("app", digest).write_bytes(b"")
    assert damages(plan(storage)) == [f"app@{digest}: the link of manifest {digest} is damaged"]
    made = plan(storage, delete_untagged=True)
    assert made.manifests == {"app": [digest]}
    assert not made.obstacle


def test_a_tag_whose_revision_is_gone_keeps_what_is_left_of_its_image(storage: Storage) -> None:
    digest = storage.image("app", "1", layers=(b"layer",))
    storage.revision("app", digest).unlink()
    made = plan(storage)
    assert made.pins.keys() == storage.all_blobs()
    assert damages(made) == [f"app:1: manifest {digest} is not linked in the repository"]


def test_a_tagged_manifest_in_a_repository_the_collector_does_not_see_is_pinned(storage: Storage) -> None:
    """An empty index needs no layer, so its repository has no _layers, by which the collector knows one."""
    digest = storage.index("app", "1", children=())
    assert plan(storage).pins.keys() == {digest}


def test_a_build_cache_is_whole_and_no_damage_is_reported(storage: Storage) -> None:
    """As buildx pushes it: an index whose entries are layers."""
    layers = [storage.upload("app", b"layer"), storage.upload("app", b"cache configuration")]
    entries = [{**storage.descriptor(layer), "mediaType": "application/x.layer"} for layer in layers]
    cache = storage.put("app", {"schemaVersion": 2, "manifests": entries}, "cache")
    made = plan(storage, delete_untagged=True)
    assert damages(made) == []
    assert made.nothing_to_do
    assert made.needed == {cache, *layers}
    storage.lose(layers[0])
    assert damages(plan(storage)) == [f"app:cache: blob {layers[0]} is missing"]


def test_a_manifest_that_its_index_calls_something_else_is_kept_with_its_layers(storage: Storage) -> None:
    image = storage.image("app", layers=(b"layer",))
    entry = {**storage.descriptor(image), "mediaType": "application/x.other"}
    index = storage.put("app", {"schemaVersion": 2, "manifests": [entry]}, "1")
    made = plan(storage, delete_untagged=True, grace=0)
    assert made.nothing_to_do
    assert made.needed == everything_of(storage, index)


def test_a_cancelled_upload_keeps_no_repository(storage: Storage) -> None:
    storage.delete("app", storage.image("app", "1", layers=(b"layer",)))
    upload = storage.repositories / "app/_uploads/id"
    (upload / "hashstates").mkdir(parents=True)
    assert plan(storage).repositories == ["app"]
    (upload / "startedat").touch()
    assert plan(storage).repositories == []


def test_without_keep_deleted_a_collection_frees_what_was_deleted_and_says_what_is_lost(
    storage: Storage,
) -> None:
    image = storage.image("app", "v1", layers=(b"layer",))
    needed = everything_of(storage, image)
    record = storage.delete_tag("app", "v1")
    made = plan(storage)
    assert made.blobs.keys() == {record, *needed}
    assert made.lost == {f"app:v1@{image}": made.blobs.keys()}
    assert made.repositories == ["app"]


@pytest.mark.parametrize("delete_untagged", [False, True])
def test_what_was_deleted_within_keep_deleted_is_pinned(storage: Storage, delete_untagged: bool) -> None:
    image = storage.image("app", layers=(b"layer",))
    index = storage.index("app", "v1", children=(image,))
    signature = storage.image("app", layers=(b"signature",), subject=index)
    untagged = storage.image("app", layers=(b"untagged",))
    before = storage.all_blobs()
    record = storage.delete_tag("app", "v1")
    made = plan(storage, delete_untagged=delete_untagged, keep_deleted=storage.age + 60)
    freed = everything_of(storage, untagged) if delete_untagged else set()
    assert storage.all_blobs() - made.blobs.keys() == {record, *before} - freed
    assert made.manifests == ({"app": [untagged]} if delete_untagged else {})
    assert signature not in made.manifests.get("app", ())
    assert (made.lost, made.repositories) == ({}, [])

    older = plan(storage, delete_untagged=delete_untagged, keep_deleted=storage.age - 60)
    assert older.lost.keys() == {f"app:v1@{index}"}
    assert {record, index, image} <= older.blobs.keys()


def test_the_record_of_a_tag_whose_manifests_stay_untagged_stays(storage: Storage) -> None:
    image = storage.image("app", "v1", layers=(b"layer",))
    record = storage.put("app", placeholder({"v1": (image,)}).document)
    shutil.rmtree(storage.tag("app", "v1").parent.parent)
    storage.delete("app", record)
    made = plan(storage)
    assert made.nothing_to_do
    assert made.pins.keys() == {record}
    wider = plan(storage, delete_untagged=True)
    assert wider.lost.keys() == {f"app:v1@{image}"}
    assert record in wider.blobs


def test_the_record_goes_if_another_tag_has_the_image(storage: Storage) -> None:
    image = storage.image("app", "v1", "v2", layers=(b"layer",))
    record = storage.put("app", placeholder({"v1": (image,)}).document, "v1")
    storage.delete("app", record)
    made = plan(storage)
    assert made.blobs.keys() == {record}
    assert made.lost.keys() == {f"app:v1@{image}"}


def test_what_cannot_be_restored_any_more_is_not_kept(storage: Storage) -> None:
    storage.image("app", "v1", layers=(b"layer",))
    layer = storage.upload("app", b"layer")
    storage.delete_tag("app", "v1")
    storage.lose(layer)
    made = plan(storage, keep_deleted=storage.age + 60)
    assert made.blobs.keys() == storage.all_blobs()
    assert made.lost == {}


def test_a_restored_tag_is_no_lost_one(storage: Storage) -> None:
    storage.image("app", "v1", layers=(b"layer",))
    record = storage.delete_tag("app", "v1")
    storage.image("app", "v1", layers=(b"layer",))
    made = plan(storage)
    assert made.blobs.keys() == {record}
    assert made.lost == {}
