"""A restore that is killed, beside pushes, deletes and collections."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Self

import pytest

from sysreg_cli.agent.garbage import planning
from sysreg_cli.agent.restore.restoring import Order, restore_in_storage
from sysreg_cli.agent.storage.snapshot import Snapshot
from sysreg_cli.agent.write_permit import permits_given
from sysreg_cli.errors import NotSupported, Unavailable
from sysreg_cli.host import failpoint
from sysreg_cli.reference import parse
from sysreg_cli.registry.deletion import delete_images
from sysreg_cli.registry.manifests import placeholder
from sysreg_cli.settings import Settings
from sysreg_cli.tokens.write_lock import WriteLock
from sysreg_cli.v1.restore import RestoredImage
from tests.killed import failpoints, killed
from tests.unit.agent.prune.stores import settings_for
from tests.unit.agent.restore.registry import Killed, KilledRegistry
from tests.unit.agent.storage.builder import Storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "storage")


@pytest.fixture
def settings(storage: Storage) -> Settings:
    return settings_for(storage)


def restore(settings: Settings, image: str, tag: str = "") -> RestoredImage:
    (result,) = restore_in_storage(settings, [Order(parse(image), tag)])
    return result


def index_of(storage: Storage) -> tuple[str, ...]:
    """Push an index with two platforms as v1 and v2, one of its platforms as v3. Return its tree."""
    platforms = tuple(storage.image("app", layers=(layer, b"shared")) for layer in (b"amd", b"arm"))
    index = storage.index("app", "v1", "v2", children=platforms)
    storage.image("app", "v3", layers=(b"arm", b"shared"))
    return index, *platforms


def half_delete(storage: Storage, *tags: str, deletes: int = 0) -> str:
    """Leave a delete of ``tags`` half done, with so many manifests deleted. Return the placeholder."""
    tree = (root := storage.tag("app", tags[0]).read_text(), *Snapshot(storage.root).manifest(root).children)  # type: ignore[union-attr]
    record = storage.put("app", placeholder(dict.fromkeys(tags, tree)).document, *tags)
    for digest in tree[:deletes]:
        storage.delete("app", digest)
    return record


def state(storage: Storage) -> dict[str, bytes]:
    """What a registry reads of a storage: the links of manifests and tags."""
    links = [*storage.repositories.rglob("revisions/**/link"), *storage.repositories.rglob("current/link")]
    return {str(link.relative_to(storage.root)): link.read_bytes() for link in links}


def whole(storage: Storage, tag: str, tree: tuple[str, ...]) -> bool:
    links = [storage.revision("app", digest) for digest in tree]
    return storage.tag("app", tag).read_text() == tree[0] and all(
        link.exists() and link.read_text() == digest for link, digest in zip(links, tree, strict=True)
    )


_SETUPS: dict[str, Callable[[Storage], object]] = {
    "deleted": lambda storage: deleted(storage),
    "one tag moved": lambda storage: half_delete(storage, "v1"),
    "both moved": lambda storage: half_delete(storage, "v1", "v2"),
    "platform deleted": lambda storage: half_delete(storage, "v1", "v2", deletes=2),
}


def deleted(storage: Storage) -> None:
    """Delete v1 and v2 with what only they need."""
    storage.delete("app", half_delete(storage, "v1", "v2", deletes=2))


@pytest.mark.parametrize("setup", _SETUPS)
def test_killed_anywhere_no_tag_is_lost_and_the_same_restore_finishes_it(
    storage: Storage, settings: Settings, tmp_path: Path, setup: str
) -> None:
    tree = index_of(storage)
    _SETUPS[setup](storage)
    before = tmp_path / "before"
    shutil.copytree(storage.root, before)
    names = failpoints(tmp_path, lambda: restore(settings, "app:v1"))
    assert whole(storage, "v1", tree)
    assert len(names) > 2
    expected = state(storage)
    for place, name in enumerate(names, 1):
        shutil.rmtree(storage.root)
        shutil.copytree(before, storage.root)
        assert killed(place, lambda: restore(settings, "app:v1")), name
        assert storage.tag("app", "v3").read_text() == tree[2], name
        result = restore(settings, "app:v1")
        assert result.restored, (name, result)
        assert state(storage) == expected, name
        assert restore(settings, "app:v2").restored or setup == "one tag moved"
        assert whole(storage, "v2", tree), name
        leftovers = [path.name for path in storage.repositories.rglob("removed-by-sysreg/*")]
        assert leftovers == [], name


def test_a_delete_that_is_killed_before_any_request_can_be_undone(tmp_path: Path) -> None:
    wanted = [parse("app:v1"), parse("app:v2")]
    for last in range(1, 100):
        storage = Storage(tmp_path / str(last) / "storage")
        settings = settings_for(storage)
        tree = index_of(storage)
        before = state(storage)
        registry: Any = KilledRegistry(storage, last)
        ended = False
        with contextlib.suppress(Killed):
            ended = all(it.recorded for _, it in delete_images(registry, wanted))  # type: ignore[union-attr]
        for image in wanted:
            result = restore(settings, str(image))
            assert result.restored or "no record" in result.error, (last, result)
        assert whole(storage, "v1", tree), last
        found = state(storage)
        assert found.items() >= before.items(), last
        assert {path for path in found.keys() - before.keys() if "/tags/" in path} == set(), last
        if ended:
            return
    raise AssertionError("100 requests for one delete")


def test_a_push_of_the_tag_at_any_time_wins(storage: Storage, settings: Settings) -> None:
    storage.image("app", "v1", layers=(b"old",))
    new = storage.image("app", layers=(b"new",))
    storage.delete_tag("app", "v1")
    link = storage.tag("app", "v1")

    def push() -> None:
        link.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(link, os.O_WRONLY | os.O_CREAT)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, new.encode())
        os.close(descriptor)

    with ThreadPoolExecutor(1) as pool:
        for _ in range(50):
            shutil.rmtree(link.parents[1], ignore_errors=True)
            pushing = pool.submit(push)
            result = restore(settings, "app:v1")
            pushing.result()
            assert link.read_text() == new, "a push was lost"
            assert result.restored or "stands for" in result.error


def test_an_index_that_lacked_a_platform_is_restored_as_it_was(storage: Storage, settings: Settings) -> None:
    platforms = tuple(storage.image("app", layers=(layer,)) for layer in (b"amd", b"arm"))
    index = storage.index("app", "v1", children=platforms)
    storage.delete("app", platforms[1])
    tree = (index, platforms[0])
    record = storage.put("app", placeholder({"v1": tree}).document, "v1")
    for digest in (*tree, record):
        storage.delete("app", digest)
    assert restore(settings, "app:v1").restored
    assert whole(storage, "v1", tree)


def test_while_a_collection_holds_writes_nothing_is_restored(storage: Storage, settings: Settings) -> None:
    storage.image("app", "v1")
    storage.delete_tag("app", "v1")
    before = state(storage)
    with WriteLock(settings.paths.state).hold(), pytest.raises(Unavailable, match="garbage collection runs"):
        restore(settings, "app:v1")
    assert state(storage) == before


def test_a_collection_that_has_planned_before_a_restore_learns_of_it(
    storage: Storage, settings: Settings
) -> None:
    storage.image("app", "v1", layers=(b"layer",))
    storage.delete_tag("app", "v1")
    planned, permits = planning.make(Snapshot(storage.root), now=2e9, grace=0), permits_given()
    assert restore(settings, "app:v1").restored
    assert permits_given() > permits, "the collection would carry out its plan"
    again = planning.make(Snapshot(storage.root), now=2e9, grace=0)
    assert len(planned.blobs) == 4
    assert len(again.blobs) == 1


def test_a_read_only_registry_is_left_as_it_is(storage: Storage, settings: Settings) -> None:
    storage.image("app", "v1")
    storage.delete_tag("app", "v1")
    before = state(storage)
    config = settings.registry.config
    config.write_text(config.read_text().replace("enabled: true", "enabled: false"))
    with pytest.raises(NotSupported, match="read-only"):
        restore(settings, "app:v1")
    assert state(storage) == before


def test_what_a_delete_of_another_tag_takes_away_meanwhile_is_put_back(
    storage: Storage, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = index_of(storage)
    deleted(storage)

    def other_delete(name: str) -> None:
        if name == "tag made":
            storage.delete("app", tree[1])

    monkeypatch.setattr(failpoint, "reach", other_delete)
    assert restore(settings, "app:v1").restored
    assert whole(storage, "v1", tree)


@pytest.mark.parametrize("seed", range(8))
def test_by_chance_each_deleted_tag_comes_back_and_no_other_changes(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    storage = Storage(tmp_path / "storage")
    settings = settings_for(storage)
    images = [
        storage.image("app", layers=(bytes([chance.randrange(4)]), bytes([number]))) for number in range(4)
    ]
    for number in range(chance.randint(2, 6)):
        parts = tuple(chance.sample(images, chance.randint(1, 3)))
        storage.index("app", f"i{number}", children=parts, annotations={"n": str(chance.randrange(3))})
    before = state(storage)
    tags = sorted(path.parents[1].name for path in storage.repositories.rglob("current/link"))
    gone = chance.sample(tags, chance.randint(1, len(tags)))
    for tag in gone:
        root = storage.tag("app", tag).read_text()
        record = storage.put("app", placeholder({tag: (root,)}).document, tag)
        if root not in {storage.tag("app", other).read_text() for other in tags if _is_there(storage, other)}:
            storage.delete("app", root)
        storage.delete("app", record)
    for tag in gone:
        assert restore(settings, f"app:{tag}").restored
    assert state(storage) == before


def _is_there(storage: Storage, tag: str) -> bool:
    return storage.tag("app", tag).exists()


class _Behind(datetime):
    """The clock of a client that is a day behind."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) - timedelta(days=1)


def delete_twice(storage: Storage, between: Callable[[], None] = lambda: None) -> tuple[str, str]:
    """Delete v1, push another image as v1, and delete it. Return both images."""
    old = storage.image("app", "v1", layers=(b"old",))
    first = storage.delete_tag("app", "v1")
    between()
    new = storage.image("app", "v1", layers=(b"new",))
    second = storage.delete_tag("app", "v1")
    now = time.time()
    os.utime(storage.path(first), (now - 100, now - 100))
    os.utime(storage.path(second), (now - 50, now - 50))
    return old, new


def test_the_last_delete_is_undone(storage: Storage, settings: Settings) -> None:
    _, new = delete_twice(storage)
    assert restore(settings, "app:v1").digest == new


def test_which_of_two_deletes_was_the_last_is_not_guessed(
    storage: Storage, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def between() -> None:
        monkeypatch.setattr("sysreg_cli.registry.manifests.datetime", _Behind)

    old, new = delete_twice(storage, between)
    result = restore(settings, "app:v1")
    assert result.error.endswith(f": app@{new} or app@{old}, with --as v1"), result
    assert restore(settings, f"app@{new}", "v1").tags == ("v1",)


def test_an_earlier_image_is_named_if_the_last_one_is_lost(storage: Storage, settings: Settings) -> None:
    old, _ = delete_twice(storage)
    storage.image("app", "v2", layers=(b"old",))
    storage.delete_tag("app", "v2")
    storage.lose(storage.blob(b"new"))
    result = restore(settings, "app:v1")
    assert result.error.endswith(f"push it again, or restore an earlier one: app@{old} --as v1")
    assert restore(settings, f"app@{old}", "v1").tags == ("v1",)
    assert not storage.tag("app", "v2").exists()


def test_of_several_tags_of_a_digest_those_that_are_free_are_restored(
    storage: Storage, settings: Settings
) -> None:
    tree = index_of(storage)
    deleted(storage)
    other = storage.image("app", "v1", layers=(b"other",))
    result = restore(settings, f"app@{tree[0]}")
    assert (result.restored, result.tags) == (True, ("v2",))
    assert result.warnings == (f"app:v1 stands for {other} now; restore it under another tag: --as TAG",)
    assert storage.tag("app", "v1").read_text() == other
    assert whole(storage, "v2", tree)


def test_no_tag_whose_own_delete_is_half_done_is_taken(storage: Storage, settings: Settings) -> None:
    index_of(storage)
    record = half_delete(storage, "v1", "v2")
    result = restore(settings, "app:v1", "v2")
    assert (result.restored, "app:v2 stands for" in result.error) == (False, True)
    assert storage.tag("app", "v2").read_text() == record
