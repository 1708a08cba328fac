"""What a collection says of damage in the storage, and what it keeps because of it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sysreg_cli.agent.garbage import planning
from sysreg_cli.agent.garbage.planning import SweepPlan
from sysreg_cli.agent.storage.damage import Damage, Remedy
from sysreg_cli.agent.storage.snapshot import Snapshot
from sysreg_cli.errors import SysregError
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


def test_a_referrer_is_named_by_its_digest_and_says_whose_it_is(storage: Storage) -> None:
    """A push of the image does not push its signature, and its tag need not be deleted."""
    image = storage.image("app", layers=(b"layer",))
    storage.index("app", "1", children=(image,))
    signature = storage.image("app", layers=(b"signature",), subject=image)
    of_signature = storage.image("app", layers=(b"of the signature",), subject=signature)
    storage.lose(storage.blob(b"signature"))
    storage.path(storage.blob(b"of the signature")).write_bytes(b"another")
    damaged, lost = (str(damage) for damage in plan(storage).damages)
    layer = storage.blob(b"of the signature")
    assert damaged == (
        f"app@{of_signature}: blob {layer}, of 16 bytes, is damaged: its file has 7 bytes, in a referrer of"
        f" app:1; delete it: system registry-image-delete --yes app@{of_signature}; collect again, then push"
        " the image"
    )
    assert lost == (
        f"app@{signature}: blob {storage.blob(b'signature')} is missing, in a referrer of app:1; push it"
        f" again, or delete it: system registry-image-delete --yes app@{signature}"
    )


def test_the_damaged_link_of_a_referrer_is_to_be_removed(storage: Storage) -> None:
    """No delete names it: the registry finds another manifest by its digest."""
    image = storage.image("app", "1", layers=(b"layer",))
    signature = storage.image("app", layers=(b"signature",), subject=image)
    link = storage.revision("app", signature)
    link.write_text(image)
    (damage,) = plan(storage).damages
    assert (damage.remedy, damage.path) == (Remedy.REMOVE_FILE, str(link))
    link.unlink()
    assert plan(storage).damages == []


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
    assert "and 10 more images" in line
    assert "rm -r '/a b\\n'" in line


def _to_file(path: Path) -> None:
    shutil.rmtree(path)
    path.touch()


def _to_itself(path: Path) -> None:
    """Replace it with a symbolic link that leads nowhere."""
    shutil.rmtree(path)
    path.symlink_to(path.name)


@pytest.mark.parametrize("replace", [_to_file, _to_itself])
@pytest.mark.parametrize(
    "place",
    [
        "_manifests/tags/1",
        "_manifests/tags/1/current",
        "_manifests/tags/1/index",
        "_manifests/tags/1/index/sha256",
        "_manifests/revisions/sha256",
        "_manifests/revisions/sha256/DIGEST",
        "_layers",
        "_layers/sha256",
        "_layers/sha256/LAYER",
        "_uploads",
    ],
)
def test_what_is_in_the_place_of_a_directory_is_to_be_removed(
    storage: Storage, place: str, replace: Callable[[Path], None]
) -> None:
    """A push could not write there, so it is no remedy."""
    digest = storage.image("app", "1", layers=(b"layer",))
    digits = {"DIGEST": digest.partition(":")[2], "LAYER": storage.blob(b"layer").partition(":")[2]}
    for word, text in digits.items():
        place = place.replace(word, text)
    path = storage.repositories / "app" / place
    path.mkdir(parents=True, exist_ok=True)
    replace(path)
    damages = plan(storage).damages
    assert {damage.path for damage in damages if damage.path} == {str(path)}
    assert f"rm -r {path}" in " ".join(map(str, damages))
    assert Remedy.PUSH not in {damage.remedy for damage in damages if damage.tags}
    path.unlink()
    assert all(damage.remedy in (Remedy.PUSH, Remedy.COLLECT) for damage in plan(storage).damages)


def test_a_file_in_the_way_of_a_blob_is_named_once_with_the_tag(storage: Storage) -> None:
    storage.image("app", "1", layers=(b"layer",))
    layer = storage.path(storage.blob(b"layer")).parent
    _to_file(layer)
    (damage,) = plan(storage).damages
    assert (damage.tags, damage.remedy, damage.path) == (("1",), Remedy.REMOVE_FILE, str(layer))


@pytest.mark.parametrize("place", ["repositories/team", "blobs/sha256/ab", f"blobs/sha256/ab/{'ab' * 32}"])
def test_a_file_in_the_way_of_later_pushes_is_named(storage: Storage, place: str) -> None:
    storage.image("app", "1")
    stray = storage.base / place
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.touch()
    (damage,) = plan(storage).damages
    assert str(damage) == f"the storage: {stray} does not belong to the registry; remove it: rm -r {stray}"


def test_what_the_registry_lists_as_a_tag_and_is_none_is_named_and_keeps_nothing(storage: Storage) -> None:
    storage.image("app", "1", layers=(b"one",))
    untagged = storage.image("app", layers=(b"untagged",))
    stray = storage.repositories / "app/_manifests/tags/lost+found"
    stray.mkdir()
    made = plan(storage, delete_untagged=True)
    assert [str(damage) for damage in made.damages] == [
        f"app: _manifests/tags/lost+found does not belong to the registry; remove it: rm -r {stray}"
    ]
    assert list(made.manifests["app"]) == [untagged]


def test_what_is_in_the_way_is_not_told_of_a_tag_that_is_damaged_otherwise(storage: Storage) -> None:
    storage.image("app", "broken")
    storage.tag("app", "broken").write_text("")
    stray = storage.repositories / "app/_manifests/tags/lost+found"
    stray.mkdir()
    assert {damage.tags: damage.path for damage in plan(storage).damages} == {
        ("broken",): "",
        (): str(stray),
    }


def test_a_damaged_manifest_with_a_damaged_link_is_removed_by_its_link(storage: Storage) -> None:
    """The registry deletes it by no digest, and a push takes it as good."""
    digest = storage.image("app", "1", layers=(b"layer",))
    storage.path(digest).write_bytes(b"")
    storage.revision("app", digest).write_bytes(b"sha256:")
    (damage,) = plan(storage).damages
    link = storage.revision("app", digest)
    assert str(damage).endswith(
        f"are damaged; remove the link: rm -r {link}; delete the tags:"
        " system registry-image-delete --yes app:1; collect again, then push the image"
    )
    link.unlink()
    (damage,) = plan(storage).damages
    assert damage.remedy is Remedy.DELETE_TAGS
    shutil.rmtree(storage.tag("app", "1").parent.parent)
    made = plan(storage, grace=0)
    assert (digest in made.blobs, made.damages) == (True, [])


def test_a_link_that_leads_to_itself_stops_no_collection(storage: Storage) -> None:
    digest = storage.image("app", "1", layers=(b"layer",))
    untagged = storage.image("app", layers=(b"untagged",))
    for link in (storage.revision("app", digest), storage.revision("app", untagged)):
        link.unlink()
        link.symlink_to(link.name)
    (storage.repositories / "loop").symlink_to("loop")
    freed = storage.blob(b"freed")
    made = plan(storage, delete_untagged=True, grace=0)
    assert freed in made.blobs
    assert {damage.remedy for damage in made.damages} == {Remedy.REMOVE_FILE, Remedy.REMOVE_STRAY}


def test_a_damaged_layer_that_an_untagged_manifest_keeps_is_named_as_long_as_it_is_there(
    storage: Storage,
) -> None:
    """A push would take it as good. So it is not enough to delete the tag."""
    tagged = storage.image("app", "1", layers=(b"layer",))
    storage.index("app", children=(storage.image("app", layers=(b"layer", b"untagged")),))
    layer = storage.blob(b"layer")
    storage.path(layer).write_bytes(b"longer than it was")
    assert {damage.remedy for damage in plan(storage).damages} == {Remedy.DELETE_TAGS}
    storage.delete("app", tagged)
    (damage,) = plan(storage).damages
    assert damage.remedy is Remedy.COLLECT
    assert layer in plan(storage, delete_untagged=True).blobs


def test_a_damaged_platform_that_an_untagged_index_keeps_is_named(storage: Storage) -> None:
    child = storage.image("app", layers=(b"layer",))
    storage.index("app", children=(child,))
    storage.path(child).write_bytes(b"")
    storage.revision("app", child).unlink()
    (damage,) = plan(storage).damages
    assert damage.remedy is Remedy.COLLECT
    made = plan(storage, delete_untagged=True, grace=0)
    assert child in made.blobs


@pytest.mark.parametrize("place", ["repositories", "blobs"])
def test_a_file_in_place_of_all_repositories_or_blobs_is_an_error_with_a_remedy(
    storage: Storage, place: str
) -> None:
    storage.image("app", "1")
    _to_file(storage.base / place)
    with pytest.raises(SysregError, match=rf"{place} is not a directory; remove it: rm -r /.*/{place}$"):
        plan(storage)


@pytest.mark.parametrize("is_tagged", [True, False])
def test_the_link_of_a_layer_that_names_another_one_is_to_be_removed(
    storage: Storage, is_tagged: bool
) -> None:
    """The registry would tell a push that the layer is there."""
    storage.image("app", *(["1"] if is_tagged else []), layers=(b"layer",))
    other = storage.upload("app", b"other")
    layer = storage.blob(b"layer")
    link = storage.repositories / "app/_layers" / layer.replace(":", "/") / "link"
    link.write_text(other)
    (damage,) = plan(storage).damages
    assert damage.path == str(link)
    assert damage.remedy is (Remedy.REMOVE_FILE if is_tagged else Remedy.REMOVE_STRAY)


def test_what_tags_need_is_pinned_if_the_collector_may_not_see_their_repository(storage: Storage) -> None:
    digest = storage.image("app", "1", layers=(b"layer",))
    layers = storage.repositories / "app/_layers"
    shutil.rmtree(layers)
    layers.symlink_to("nowhere")
    made = plan(storage, grace=0)
    assert {digest, storage.blob(b"layer")} <= made.pins.keys()
    assert made.blobs == {}
    assert made.obstacle
