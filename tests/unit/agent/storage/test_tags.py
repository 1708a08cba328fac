"""Tags in the storage: what their links say, and their removal."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sysreg_cli.agent.storage import removal
from sysreg_cli.agent.storage.deleted import DeletedTag, deleted_tags
from sysreg_cli.agent.storage.snapshot import Snapshot
from sysreg_cli.agent.storage.tags import TagStorage
from sysreg_cli.errors import Conflict, NotSupported, SysregError, Unavailable
from sysreg_cli.registry.manifests import RemoteManifest
from sysreg_cli.settings import AgentSettings, PathSettings, RegistrySettings, Settings
from sysreg_cli.tokens.write_lock import WriteLock
from tests.killed import failpoints, killed
from tests.unit.agent.storage.builder import Storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "storage")


@pytest.fixture
def tags(storage: Storage, tmp_path: Path) -> TagStorage:
    (tmp_path / "state").mkdir()
    config = tmp_path / "config.yml"
    config.write_text(
        f"storage: {{filesystem: {{rootdirectory: '{storage.root}'}}, delete: {{enabled: true}}}}"
    )
    return TagStorage(
        Settings(
            registry=RegistrySettings(config=config, storage=storage.root),
            agent=AgentSettings(restart_command="true"),
            paths=PathSettings(state=tmp_path / "state"),
        )
    )


def _directory(storage: Storage, tag: str) -> Path:
    return storage.repositories / "app/_manifests/tags" / tag


def test_each_tag_has_the_digest_of_its_link(storage: Storage, tags: TagStorage) -> None:
    one = storage.image("app", "v1", "v1-again")
    two = storage.image("app", "v2", layers=(b"two",))
    storage.image("app/nested", "other")
    assert tags.tags("app") == {"v1": one, "v1-again": one, "v2": two}
    assert tags.tags("no/such") == {}


def _replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def _replace_directory(link: Path) -> None:
    link.unlink()
    link.parent.rmdir()
    link.parent.touch()


@pytest.mark.parametrize(
    "damage",
    [
        lambda link: link.write_text(""),
        lambda link: link.write_text("sha256:abc"),
        lambda link: link.write_text(link.read_text() + "\n"),
        lambda link: link.write_bytes(b"\xff\0"),
        lambda link: _replace(link, Path.mkdir),
        lambda link: _replace(link, os.mkfifo),
        lambda link: _replace(link, lambda path: path.symlink_to("/etc/passwd")),
        _replace_directory,
    ],
    ids=["empty", "cut", "newline", "binary", "directory", "FIFO", "symbolic link", "current is a file"],
)
def test_a_damaged_link_is_told_and_the_others_are_removed(
    storage: Storage, tags: TagStorage, damage: Callable[[Path], object]
) -> None:
    digest = storage.image("app", "damaged", "v1")
    damage(_directory(storage, "damaged") / "current/link")
    assert tags.tags("app") == {"damaged": "", "v1": digest}
    assert tags.remove("app", {"v1": digest, "damaged": digest}) == ["v1"]
    assert tags.tags("app") == {"damaged": ""}


def test_what_is_no_tag_is_not_in_the_list(storage: Storage, tags: TagStorage) -> None:
    digest = storage.image("app", "v1")
    for name in (b".nfs0001", b"\xff", b"a b", b"x" * 200):
        (_directory(storage, "") / os.fsdecode(name)).mkdir()
    assert tags.tags("app") == {"v1": digest}


def test_a_removed_tag_is_gone_with_its_history_and_its_image_stays(
    storage: Storage, tags: TagStorage
) -> None:
    storage.image("app", "v1", layers=(b"former",))
    digest = storage.image("app", "v1", "v2")
    _directory(storage, "v1/deep").joinpath(*["x"] * 500).mkdir(parents=True)
    before = {path for path in storage.base.rglob("*") if "v1" not in path.parts}
    assert tags.remove("app", {"v1": digest}) == ["v1"]
    assert not _directory(storage, "v1").exists()
    assert set(storage.base.rglob("*")) == before
    assert tags.remove("app", {"v1": digest}) == []


def test_a_tag_that_was_pushed_again_stays(storage: Storage, tags: TagStorage) -> None:
    before = storage.image("app", "v1", "v2")
    storage.image("app", "v1", layers=(b"new",))
    assert tags.remove("app", {"v1": before, "v2": before}) == ["v2"]
    assert set(tags.tags("app")) == {"v1"}


def test_a_symbolic_link_in_place_of_a_tag_is_removed_and_not_followed(
    storage: Storage, tags: TagStorage
) -> None:
    digest = storage.image("app", "v1")
    _directory(storage, "linked").symlink_to("v1")
    assert tags.remove("app", {"linked": digest}) == ["linked"]
    assert tags.tags("app") == {"v1": digest}


def test_one_tag_with_a_damaged_link_is_removed_and_nothing_else(storage: Storage, tags: TagStorage) -> None:
    digest = storage.image("app", "damaged", "v1")
    storage.tag("app", "damaged").write_text("")
    with pytest.raises(Conflict, match="app:v1 does not stand for a damaged link"):
        tags.remove_tag("app", "v1", "")
    with pytest.raises(Conflict, match="app:never does not stand for a damaged link"):
        tags.remove_tag("app", "never", "")
    tags.remove_tag("app", "damaged", "")
    assert tags.tags("app") == {"v1": digest}


@pytest.mark.parametrize(
    "keys", ["", ", delete: {enabled: true}, maintenance: {readonly: {enabled: true}}", ", delete: {}"]
)
def test_a_registry_that_deletes_nothing_keeps_its_tags(
    storage: Storage, tags: TagStorage, tmp_path: Path, keys: str
) -> None:
    digest = storage.image("app", "v1")
    root = f"filesystem: {{rootdirectory: '{storage.root}'}}"
    (tmp_path / "config.yml").write_text(f"storage: {{{root}{keys}}}")
    with pytest.raises(NotSupported, match=r"deletes switched off; see .*config.yml"):
        tags.remove("app", {"v1": digest})
    assert tags.tags("app") == {"v1": digest}


def test_a_delete_is_finished_only_if_the_registry_has_deleted_the_manifest(
    storage: Storage, tags: TagStorage
) -> None:
    gone, other = storage.image("app", "v1", "v2"), storage.image("app", "other", layers=(b"other",))
    with pytest.raises(Conflict, match="is not deleted"):
        tags.finish_delete("app", gone)
    assert len(tags.tags("app")) == 3
    storage.revision("app", gone).unlink()
    tags.finish_delete("app", gone)
    assert tags.tags("app") == {"other": other}


def test_while_a_collection_holds_writes_no_tag_is_removed(
    storage: Storage, tags: TagStorage, tmp_path: Path
) -> None:
    digest = storage.image("app", "v1")
    with contextlib.closing(WriteLock(tmp_path / "state").hold()):
        with pytest.raises(Unavailable, match="while a garbage collection runs"):
            tags.remove("app", {"v1": digest})
        assert tags.tags("app") == {"v1": digest}


def test_a_storage_that_cannot_be_accessed_is_an_error(
    storage: Storage, tags: TagStorage, tmp_path: Path
) -> None:
    storage.root.rmdir()
    with pytest.raises(SysregError, match="storage: No such file"):
        tags.tags("app")
    (tmp_path / "config.yml").write_text("storage: {s3: {bucket: b}}")
    with pytest.raises(NotSupported, match="driver s3"):
        tags.tags("app")


def test_a_removal_that_is_killed_anywhere_leaves_the_record_of_each_tag_that_is_gone(
    storage: Storage, tags: TagStorage, tmp_path: Path
) -> None:
    image = storage.image("app", "v1", "v2", layers=(b"layer",))
    before = tmp_path / "before"
    shutil.copytree(storage.root, before)
    gone = dict.fromkeys(("v1", "v2"), image)

    def remove() -> list[str]:
        return tags.remove("app", gone, dict.fromkeys(gone, (image,)), by="somebody")

    names = failpoints(tmp_path, remove)
    assert len(names) > 2
    for place, name in enumerate(names, 1):
        shutil.rmtree(storage.root)
        shutil.copytree(before, storage.root)
        assert killed(place, remove), name
        assert set(gone) - tags.tags("app").keys() <= {it.tag for it in _deleted(storage)}, name
        remove()
        assert {it.tag for it in _deleted(storage)} == set(gone), name


def test_the_record_names_no_tag_that_stays(storage: Storage, tags: TagStorage) -> None:
    old = storage.image("app", "v1", "v2")
    new = storage.image("app", "v2", layers=(b"new",))
    trees = dict.fromkeys(("v1", "v2"), (old,))
    assert tags.remove("app", dict.fromkeys(trees, old), trees) == ["v1"]
    assert [(it.tag, it.root) for it in _deleted(storage)] == [("v1", old)]
    assert tags.tags("app") == {"v2": new}
    assert (
        len([path for path in storage.all_blobs() if b"throw-away" in storage.path(path).read_bytes()]) == 1
    )


def test_a_record_that_cannot_be_corrected_on_a_full_disk_stays(
    storage: Storage, tags: TagStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = storage.image("app", "v1", "v2")
    storage.image("app", "v2", layers=(b"new",))
    add_record = removal.add_record
    added: list[RemoteManifest] = []

    def add(root: Path, repository: str, record: RemoteManifest) -> None:
        if added:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        added.append(record)
        add_record(root, repository, record)

    monkeypatch.setattr(removal, "add_record", add)
    trees = dict.fromkeys(("v1", "v2"), (old,))
    assert tags.remove("app", dict.fromkeys(trees, old), trees) == ["v1"]
    assert "v1" in {it.tag for it in _deleted(storage)}


def _deleted(storage: Storage) -> list[DeletedTag]:
    snapshot = Snapshot(storage.root)
    return deleted_tags(snapshot, snapshot.repositories["app"])
