"""What is read of a storage, and what damage or an attacker may have put into it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from sysreg_cli.agent.garbage import planning
from sysreg_cli.agent.storage import repositories
from sysreg_cli.agent.storage.links import Links
from sysreg_cli.agent.storage.readers import Readers
from sysreg_cli.agent.storage.repository import Repository
from sysreg_cli.agent.storage.snapshot import Snapshot
from tests.unit.agent.storage.builder import Storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path)


def replace(path: Path, kind: str) -> None:
    content = path.read_bytes()
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "symbolic link":
        path.with_name("elsewhere").write_bytes(content)
        path.symlink_to("elsewhere")
    else:
        here = Path.cwd()
        with socket.socket(socket.AF_UNIX) as listener:
            os.chdir(path.parent)  # the name of a socket is short
            listener.bind(path.name)
            os.chdir(here)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["fifo", "directory", "symbolic link", "socket"])
def test_a_link_that_is_not_a_regular_file_is_damaged_and_stops_no_reader(
    storage: Storage, kind: str
) -> None:
    digest = storage.image("app", "1", layers=(b"layer",))
    other = storage.image("other", "1", layers=(b"layer",))
    replace(storage.tag("app", "1"), kind)
    replace(storage.revision("app", digest), kind)
    snapshot = Snapshot(storage.root)
    assert snapshot.repositories["app"].tags == {"1": ""}
    assert snapshot.repositories["app"].broken == {digest: ""}
    assert len(snapshot.repositories["app"].odd) == 2
    assert snapshot.repositories["other"].tags == {"1": other}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["fifo", "directory", "socket"])
def test_a_blob_that_is_not_a_regular_file_is_no_manifest_and_stops_no_reader(
    storage: Storage, kind: str
) -> None:
    digest = storage.image("app", "1", layers=(b"layer",))
    replace(storage.path(digest), kind)
    assert Snapshot(storage.root).manifest(digest) is None


def test_repositories_may_nest_as_deep_as_paths_may_be_long(storage: Storage) -> None:
    depth = 1500
    storage.image("app", "1", layers=(b"layer",))
    here = os.open(storage.repositories, os.O_RDONLY)
    for _ in range(depth):  # Path.mkdir would recurse
        os.mkdir("a", dir_fd=here)
        inner = os.open("a", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.mkdir("_layers", dir_fd=here)
    os.close(here)
    try:
        assert Snapshot(storage.root).repositories.keys() == {"app", "/".join(["a"] * depth)}
    finally:
        subprocess.run(["rm", "-r", storage.repositories / "a"], check=True)  # pytest's would recurse


def test_a_cancelled_upload_does_not_count(storage: Storage) -> None:
    """The registry removes its directory, and then writes the state of the hash once more."""
    for repository, files in {
        "under-way": ("startedat", "data", "hashstates/sha256/0"),
        "cancelled": ("hashstates/sha256/0",),
        "beginning": (),
    }.items():
        upload = storage.repositories / repository / "_uploads/id"
        upload.mkdir(parents=True)
        for name in files:
            (upload / name).parent.mkdir(parents=True, exist_ok=True)
            (upload / name).touch()
    repositories = Snapshot(storage.root).repositories
    assert {name: repository.uploads for name, repository in repositories.items()} == {
        "under-way": 1,
        "cancelled": 0,
        "beginning": 1,
    }


def test_a_cancel_takes_effect_before_the_next_file_is_read(storage: Storage) -> None:
    for number in range(20):
        storage.image("app", f"t{number // 2}", layers=(bytes([number]),))
    allowed = [10_000]

    def check() -> None:
        allowed[0] -= 1
        if allowed[0] < 0:
            raise InterruptedError

    def planned() -> None:
        snapshot = Snapshot(storage.root, readers=Readers(check))
        planning.make(snapshot, now=time.time(), grace=1e6, delete_untagged=True)

    planned()
    checks = 10_000 - allowed[0]
    assert checks > sum(path.is_file() for path in storage.root.rglob("*"))
    for allowed[0] in (0, checks // 2, checks - 1):
        with pytest.raises(InterruptedError):
            planned()


def test_a_manifest_that_is_pushed_between_two_snapshots_is_seen_by_the_second(storage: Storage) -> None:
    """The second snapshot gets the manifests that the first has parsed."""
    digest = storage.image("app", "1", layers=(b"layer",))
    content = storage.path(digest).read_bytes()
    storage.lose(digest)
    first = Snapshot(storage.root)
    assert first.manifest(digest) is None
    assert storage.blob(content) == digest
    second = Snapshot(storage.root, first)
    assert second.manifest(digest) is not None


def test_a_repository_that_goes_while_it_is_read_stops_no_reader(storage: Storage) -> None:
    digest = storage.image("app", "1", layers=(b"layer",))
    snapshot = Snapshot(storage.root)
    shutil.rmtree(storage.repositories / "app")
    plan = planning.make(snapshot, now=time.time(), grace=3600)
    assert digest in plan.needed
    assert {damage.tags for damage in plan.damages} == {("1",)}


def test_a_link_that_cannot_be_looked_at_is_named_with_its_whole_path(storage: Storage) -> None:
    link = storage.revision("app", storage.image("app", "1", layers=(b"layer",)))
    with (
        pytest.raises(OSError, match="File name too long") as caught,
        Links(str(link.parents[5]), 0) as links,
    ):
        links.is_file("x" * 300)
    assert caught.value.filename == str(link.parents[5] / ("x" * 300))


def test_a_push_between_the_reading_of_manifests_and_of_tags_is_no_damage(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.image("app", "1")
    read_tags = repositories._Reading.read_tags

    def pushed_meanwhile(reading: repositories._Reading, repository: Repository) -> None:
        storage.index("app", "2", children=(storage.image("app", layers=(b"new",)),))
        read_tags(reading, repository)

    monkeypatch.setattr(repositories._Reading, "read_tags", pushed_meanwhile)
    snapshot = Snapshot(storage.root)
    assert snapshot.repositories["app"].tags.keys() == {"1", "2"}
    assert list(planning.make(snapshot, now=time.time(), grace=3600).damages) == []


def test_a_link_that_is_being_written_is_no_damage(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry empties a link first."""
    digest = storage.image("app", "1")
    link = storage.tag("app", "1")
    link.write_text("")
    monkeypatch.setattr("sysreg_cli.agent.storage.links.time.sleep", lambda _seconds: link.write_text(digest))
    assert Snapshot(storage.root).repositories["app"].tags == {"1": digest}
    link.write_text("")
    os.utime(link, (0, 0))
    assert Snapshot(storage.root).repositories["app"].tags == {"1": ""}
