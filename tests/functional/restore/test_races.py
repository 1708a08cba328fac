"""A prune or a restore between the scan of a collection and its deletes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sysreg_cli.agent.garbage.collection import Collection
from sysreg_cli.agent.prune.stored import stored_images
from sysreg_cli.agent.restore.restoring import Order, restore_in_storage
from sysreg_cli.agent.storage.snapshot import Snapshot
from sysreg_cli.agent.storage.tags import TagStorage
from sysreg_cli.reference import parse
from sysreg_cli.v1.collections import CollectionResult, Phase
from tests.functional.garbage.sandbox import Sandbox


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    """A storage with something to collect, and with the tag app:1."""
    sandbox = Sandbox(tmp_path)
    sandbox.write_config(", delete: {enabled: true}")
    sandbox.storage.age = 5
    sandbox.storage.image("app", "1", layers=(b"a layer",))
    sandbox.storage.delete("gone", sandbox.storage.image("gone", "1", layers=(b"gone",)))
    return sandbox


def prune(sandbox: Sandbox) -> None:
    (image,) = (it for it in stored_images(Snapshot(sandbox.storage.root), lambda name: name == "app"))
    (tag,) = image.tags
    assert TagStorage(sandbox.settings).remove("app", {"1": tag.digest}, {"1": tag.tree}, by="admin") == ["1"]


def restore(sandbox: Sandbox) -> None:
    (result,) = restore_in_storage(sandbox.settings, [Order(parse("app:1", ()))])
    assert result.restored, result


def collect_and(sandbox: Sandbox, change: Callable[[Sandbox], None], **options: float) -> CollectionResult:
    """Collect, and make the change after the scan. The collection then has nothing of a push to wait for."""

    def entered(phase: Phase, _collection: Collection) -> None:
        if phase is Phase.DRAIN:
            change(sandbox)

    result = sandbox.collect(entered, **options)
    assert (result.outcome, result.error) == ("done", "")
    assert result.blobs > 0
    return result


@pytest.mark.parametrize("keep_deleted", [0, 3600])
def test_what_is_pruned_after_the_scan_can_be_restored(sandbox: Sandbox, keep_deleted: float) -> None:
    result = collect_and(sandbox, prune, keep_deleted=keep_deleted)
    assert result.irrecoverable == 0
    restore(sandbox)


def test_what_is_restored_after_the_scan_stays(sandbox: Sandbox) -> None:
    prune(sandbox)
    collect_and(sandbox, restore, delete_untagged=True, grace=0)
    snapshot = Snapshot(sandbox.storage.root)
    digest = snapshot.repositories["app"].tags["1"]
    manifest = snapshot.manifest(digest)
    assert manifest is not None
    assert set(manifest.blobs) <= snapshot.blobs.keys()
