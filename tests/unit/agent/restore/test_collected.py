"""Deletes, a collection with --keep-deleted, and restores, in storages by chance."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sysreg_cli.agent.garbage import planning
from sysreg_cli.agent.prune.stored import stored_images
from sysreg_cli.agent.restore.restoring import Order, restore_in_storage
from sysreg_cli.agent.storage.deleted import DeletedTag, deleted_tags, is_restored, why_lost
from sysreg_cli.agent.storage.snapshot import Snapshot
from sysreg_cli.agent.storage.tags import TagStorage
from sysreg_cli.reference import ImageReference
from sysreg_cli.registry.deletion import delete_images
from tests.unit.agent.prune.stores import DAY, settings_for
from tests.unit.agent.restore.registry import KilledRegistry
from tests.unit.agent.storage.builder import Storage
from tests.unit.agent.usage.test_accounting import by_chance


def delete(storage: Storage, chance: random.Random) -> None:
    """Delete some tags as registry-image-delete does."""
    registry: Any = KilledRegistry(storage)
    tags = [
        ImageReference(repository.name, tag)
        for repository in Snapshot(storage.root).repositories.values()
        for tag in sorted(repository.tags)
    ]
    list(delete_images(registry, chance.sample(tags, chance.randint(0, len(tags)))))


def prune(storage: Storage, tags: TagStorage, chance: random.Random) -> None:
    """Remove some tags as registry-image-prune does."""
    for image in list(stored_images(Snapshot(storage.root), lambda _name: True)):
        going = [it for it in image.tags if it.tree and chance.random() < 0.5]
        tags.remove(image.name, {it.name: it.digest for it in going}, {it.name: it.tree for it in going})


def restorable(storage: Storage) -> Iterator[DeletedTag]:
    snapshot = Snapshot(storage.root)
    for repository in snapshot.repositories.values():
        for it in deleted_tags(snapshot, repository):
            if not is_restored(repository, it) and not why_lost(snapshot, repository, it):
                yield it


def carry_out(storage: Storage, plan: planning.SweepPlan) -> None:
    """Remove what the plan says, as a collection does."""
    for name, digests in plan.manifests.items():
        for digest in digests:
            shutil.rmtree(storage.revision(name, digest).parent)
    for digest in plan.blobs:
        storage.lose(digest)
    for name in plan.repositories:
        for own in ("_manifests", "_layers", "_uploads"):
            shutil.rmtree(storage.repositories / name / own, ignore_errors=True)


def is_whole(storage: Storage, deleted: DeletedTag) -> bool:
    snapshot = Snapshot(storage.root)
    repository = snapshot.repositories[deleted.repository]
    manifests = {digest: snapshot.manifest(digest) for digest in deleted.manifests}
    return (
        is_restored(repository, deleted)
        and repository.revisions.issuperset(manifests)
        and all(it is not None and {*it.blobs} <= snapshot.blobs.keys() for it in manifests.values())
    )


@pytest.mark.parametrize("seed", range(40))
def test_a_collection_keeps_what_is_young_and_names_each_tag_that_it_loses(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    storage = Storage(tmp_path / "storage")
    by_chance(storage, chance)
    settings = settings_for(storage)
    delete(storage, chance)
    prune(storage, TagStorage(settings), chance)
    for record in {it.record for it in restorable(storage)}:
        if chance.random() < 0.5:
            os.utime(storage.path(record), (time.time() - 3 * DAY,) * 2)
    before = list(restorable(storage))

    plan = planning.make(
        Snapshot(storage.root),
        now=time.time(),
        grace=0,
        delete_untagged=chance.random() < 0.5,
        keep_deleted=DAY,
    )
    carry_out(storage, plan)

    for it in before:
        lost = f"{it}@{it.root}" in plan.lost
        assert not (lost and it.at > time.time() - DAY), f"{it} was young"
        (result,) = restore_in_storage(settings, [Order(ImageReference(it.repository, it.tag))])
        assert result.restored is not lost, (it, result)
        assert lost or is_whole(storage, it)
