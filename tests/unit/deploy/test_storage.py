"""``sysreg-deploy --check`` says that the registry's user can't use its storage."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sysreg_cli.deploy.storage import StorageRights
from tests.unit.agent.storage.builder import Storage

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="taking another user's rights needs root")


@pytest.fixture
def storage() -> Iterator[Storage]:
    """A storage that belongs to ``nobody``, in a directory that other users can enter."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        storage = Storage(Path(directory) / "storage")
        storage.image("group/app", "1", layers=(b"layer",))
        for path in [storage.root, *storage.root.rglob("*")]:
            shutil.chown(path, "nobody")
        yield storage


def test_a_storage_of_the_registrys_user_is_as_it_should_be(storage: Storage) -> None:
    assert StorageRights(storage.root, "nobody").refusal() is None
    assert StorageRights(storage.root / "nothing-was-pushed", "nobody").refusal() is None


@pytest.mark.parametrize(
    "place",
    [
        "",
        "docker",
        "docker/registry/v2/blobs/sha256",
        "docker/registry/v2/repositories/group",
        "docker/registry/v2/repositories/group/app/_layers",
        "docker/registry/v2/repositories/group/app/_manifests/tags",
    ],
)
def test_a_directory_of_another_user_is_named_with_the_command_that_repairs_it(
    storage: Storage, place: str
) -> None:
    path = storage.root / place
    shutil.chown(path, "root")
    refusal = StorageRights(storage.root, "nobody").refusal()
    assert refusal is not None
    assert f"nobody may not read or change {path}: it belongs to root, with mode 0755" in str(refusal)
    command = refusal.next_step.partition(": ")[2]
    assert os.system(command) == 0
    assert StorageRights(storage.root, "nobody").refusal() is None
