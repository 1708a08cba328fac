"""What a collection says of damage in the storage, and what it keeps because of it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from sysreg_cli.agent.garbage import planning
from sysreg_cli.agent.garbage.planning import SweepPlan
from sysreg_cli.agent.storage.damage import Damage, Remedy
from sysreg_cli.agent.storage.snapshot import Snapshot
from tests.unit.agent.storage.builder import Storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path)


def plan(storage: Storage, *, delete_untagged: bool = False, grace: float = 3600) -> SweepPlan:
    return planning.make(
        Snapshot(storage.root), now=time.time(), grace=grace, delete_untagged=delete_untagged
    )


def test_damage_names_every_tag_that_needs_the_thing_also_through_an_index(storage: Storage) -> None:
    amd = storage.image("app", "amd", layers=(b"amd",))
    storage.index("app", "1", "2", children=(amd, storage.image("app", layers=(b"arm",))))
    storage.image("app", "whole", layers=(b"whole",))
    storage.path(amd).write_bytes(b"")
    (damage,) = plan(storage).damages
    assert str(damage) == (
        f"app:1, app:2, app:amd: manifest {amd} is damaged: its file has 0 bytes; delete it: system"
        f" registry-image-delete --yes app:1 app:2 app:amd app@{amd}; collect again, then push the image"
    )


def test_a_referrer_is_named_by_the_tag_of_its_subject(storage: Storage) -> None:
    image = storage.image("app", "1", layers=(b"layer",))
    storage.image("app", layers=(b"signature",), subject=image)
    storage.lose(storage.blob(b"signature"))
    (damage,) = plan(storage).damages
    assert damage.tags == ("1",)


def test_a_shared_layer_is_named_once_with_all_its_tags(storage: Storage) -> None:
    for tag in ("1", "2"):
        storage.image("app", tag, layers=(b"shared", tag.encode()))
    layer = storage.blob(b"shared")
    (storage.repositories / "app/_layers" / layer.replace(":", "/") / "link").write_bytes(b"")
    (damage,) = plan(storage).damages
    assert (damage.what, damage.tags) == (f"blob {layer} is linked by a damaged file", ("1", "2"))


def test_a_layer_of_another_size_than_its_manifest_says_is_damaged(storage: Storage) -> None:
    storage.image("app", "1", layers=(b"layer",))
    layer = storage.blob(b"layer")
    storage.path(layer).write_bytes(b"cut")
    (damage,) = plan(storage).damages
    assert damage.what == f"blob {layer}, of 5 bytes, is damaged: its file has 3 bytes"
    assert damage.remedy is Remedy.DELETE_TAGS


def test_a_manifest_of_another_digest_is_damaged_however_whole_it_looks(storage: Storage) -> None:
    """A flipped bit may name another layer."""
    digest = storage.image("app", "1", layers=(b"layer",))
    content = storage.path(digest).read_bytes()
    layer = storage.blob(b"layer")
    storage.path(digest).write_bytes(content.replace(layer.encode(), f"sha256:{0:064x}".encode()))
    made = plan(storage)
    assert [damage.remedy for damage in made.damages] == [Remedy.DELETE_MANIFEST]
    assert layer in made.pins
    assert made.obstacle


@pytest.mark.parametrize("content", [b"", b"{", b"[]", None])
def test_what_a_damaged_or_missing_manifest_may_need_is_kept_and_the_rest_is_freed(
    storage: Storage, content: bytes | None
) -> None:
    image = storage.image("app", "1", layers=(b"layer",))
    kept = storage.all_blobs()
    gone = storage.image("other", "1", layers=(b"gone",))
    storage.delete("other", gone)
    if content is None:
        storage.lose(image)
        kept.remove(image)
    else:
        storage.path(image).write_bytes(content)
    made = plan(storage)
    assert storage.all_blobs() - made.blobs.keys() == kept
    assert gone in made.blobs
    assert made.repositories == ["other"]


def test_a_damaged_manifest_may_be_the_index_of_each_untagged_one(storage: Storage) -> None:
    amd = storage.image("app", layers=(b"amd",))
    index = storage.index("app", "1", children=(amd,))
    storage.path(index).write_bytes(b"")
    untagged = storage.image("other", layers=(b"untagged",))
    assert plan(storage, delete_untagged=True).manifests == {"other": [untagged]}


def test_a_missing_manifest_that_no_tag_reaches_goes_with_delete_untagged(storage: Storage) -> None:
    storage.age = 5
    digest = storage.image("app", layers=(b"layer",))
    storage.lose(digest)
    (damage,) = plan(storage).damages
    assert damage.remedy is Remedy.COLLECT
    made = plan(storage, delete_untagged=True)
    assert made.manifests == {"app": [digest]}
    assert made.repositories == []  # its layers may belong to a push under way


@pytest.mark.parametrize(
    "path",
    [
        "blobs/sha256/ab/cd/data",
        "blobs/md5/ab/abcd/data",
        "repositories/Upper/_layers/x",
        "repositories/app/_manifests/revisions/sha256/abc/link",
    ],
)
def test_the_collector_is_not_run_where_it_would_stop_at_what_the_registry_never_wrote(
    storage: Storage, path: str
) -> None:
    storage.image("app", "1", layers=(b"layer",))
    assert not plan(storage).obstacle
    foreign = storage.base / path
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"foreign")
    made = plan(storage)
    assert made.obstacle
    assert made.blobs == {}


@pytest.mark.parametrize("name", ["_manifests", "_manifests/revisions"])
def test_a_repository_whose_manifests_are_no_directory_is_named_and_kept(storage: Storage, name: str) -> None:
    storage.image("app", "1", layers=(b"layer",))
    path = storage.repositories / "app" / name
    shutil.rmtree(path)
    path.touch()
    made = plan(storage)
    assert f"app: {name} is no directory; remove it: rm -r {path}; then push the image again" in map(
        str, made.damages
    )
    assert storage.blob(b"layer") in made.pins
    assert made.repositories == []


@pytest.mark.timeout(20)
def test_links_that_lead_upwards_are_followed_once(storage: Storage) -> None:
    storage.image("app", "1", layers=(b"layer",))
    for name in ("a", "b"):
        (storage.repositories / name).symlink_to(".")
    assert len(Snapshot(storage.root).repositories) <= 3


def test_a_line_stays_one_line_and_short(storage: Storage) -> None:
    tags = tuple(str(number) for number in range(20))
    line = str(Damage("a\nb", "is damaged", Remedy.REMOVE_FILE, tags=tags, path="/a b\n"))
    assert "\n" not in line
    assert "and 10 more tags" in line
    assert "rm -r '/a b\\n'" in line
