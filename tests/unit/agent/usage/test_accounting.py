"""What a tag, an image or a user has alone, against what the real delete and a collection's plan free."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Hashable
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sysreg_cli.agent.garbage import planning
from sysreg_cli.agent.storage.snapshot import Snapshot
from sysreg_cli.agent.usage.accounting import Tag, shares
from sysreg_cli.errors import SysregError
from sysreg_cli.reference import ImageReference
from sysreg_cli.registry.deletion import delete_images
from tests.unit.agent.storage.builder import Storage
from tests.unit.agent.usage.storage_registry import StorageRegistry

# the same in each repository, and of different sizes, so that a wrong sum cannot be right by chance
_LAYERS = [bytes([number]) * 3**number for number in range(1, 8)]

# in memory where there is such a file system: the stores are copied many times
_FAST = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def by_chance(storage: Storage, chance: random.Random) -> None:
    """Push images that share layers, indexes of indexes and referrers, and damage some."""
    held: list[tuple[str, str]] = []
    for _ in range(chance.randint(1, 10)):
        repository = chance.choice(["a/x", "a/x/y", "b/x", "plain"])
        tags = chance.sample(["1", "2", "3"], chance.randint(0, 2))
        here = [digest for name, digest in held if name == repository and storage.path(digest).exists()]
        action = chance.random()
        if action < 0.5:
            extra = {"subject": chance.choice(here)} if here and chance.random() < 0.2 else {}
            layers = tuple(chance.sample(_LAYERS, chance.randint(1, 3)))
            held.append((repository, storage.image(repository, *tags, layers=layers, **extra)))
        elif action < 0.75 and here:
            children = tuple(chance.sample(here, min(len(here), 2)))
            held.append((repository, storage.index(repository, *tags, children=children)))
        elif action < 0.8:
            storage.index(repository, *tags, children=())
        elif action < 0.85:
            storage.upload(repository, chance.randbytes(20))
        elif action < 0.9 and here and storage.revision(repository, digest := chance.choice(here)).exists():
            storage.delete(repository, digest)
        elif action < 0.92 and here:
            storage.path(chance.choice(here)).write_bytes(b"")
        elif action < 0.94 and here:
            storage.lose(chance.choice(sorted(storage.all_blobs())))
        elif action < 0.95 and here:
            storage.revision(repository, chance.choice(here)).write_bytes(b"")
        elif action < 0.97 and tags:
            storage.image(repository, tags[0], layers=(_LAYERS[0],))
            storage.tag(repository, tags[0]).write_bytes(b"")
        elif action < 0.98:
            shutil.rmtree(storage.repositories / repository / "_layers", ignore_errors=True)


def freed(storage: Storage) -> int:
    """Return the bytes that a collection frees."""
    plan = planning.make(Snapshot(storage.root), now=time.time(), grace=3600)
    return sum(plan.blobs.values())


def deleted(storage: Storage, tags: list[Tag]) -> Path:
    """Delete the tags in a copy of the storage, as the command does; tags of one repository together."""
    copy = storage.root.with_name(storage.root.name + "-copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(storage.root, copy, copy_function=os.link)
    references = [ImageReference(tag.repository, tag.name) for tag in tags]
    for image, outcome in delete_images(StorageRegistry(Storage(copy)), references):  # type: ignore[arg-type]
        assert not isinstance(outcome, SysregError), (image, outcome)
    return copy


def group_of(kind: str, tag: Tag) -> Hashable:
    return {"tag": tag, "image": tag.repository, "user": tag.repository.partition("/")[0]}[kind]


@given(seed=st.integers(0, 2**32), kind=st.sampled_from(["tag", "tag", "image", "user"]))
@settings(
    max_examples=100,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_unique_is_to_the_byte_what_a_delete_and_a_collection_free(seed: int, kind: str) -> None:
    with TemporaryDirectory(dir=_FAST) as directory:
        storage = Storage(Path(directory) / "storage")
        by_chance(storage, random.Random(seed))
        snapshot = Snapshot(storage.root)
        tags = [Tag(name, tag) for name, it in snapshot.repositories.items() for tag in it.tags]
        found = shares(snapshot, {tag: group_of(kind, tag) for tag in tags})
        before = freed(storage)
        assert found.keys() == {group_of(kind, tag) for tag in tags}
        for group, share in found.items():
            copy = deleted(storage, [tag for tag in tags if group_of(kind, tag) == group])
            assert freed(Storage(copy)) - before == share.unique, (group, copy)


def test_each_blob_counts_once_and_a_shared_one_belongs_to_nobody_alone(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.image("a", "1", layers=(b"shared", b"own"))
    storage.image("b", "1", layers=(b"shared",))
    found = shares(Snapshot(tmp_path), {Tag("a", "1"): "a", Tag("b", "1"): "b"})
    assert found["a"].size - found["a"].unique == len(b"shared")
    assert len(found["a"].blobs) == 4  # the manifest, the configuration and two layers


def test_a_referrer_is_not_freed_with_its_subject(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    image = storage.image("a", "1", layers=(b"layer",))
    alone = shares(Snapshot(tmp_path), {Tag("a", "1"): "a"})["a"]
    storage.image("a", layers=(b"signature",), subject=image)
    assert shares(Snapshot(tmp_path), {Tag("a", "1"): "a"})["a"] == alone
