"""The removal of a tag beside a push of that tag, and by a process that is killed."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from devstack.waiting import wait_until
from sysreg_cli.agent.storage import layout, removal
from sysreg_cli.host import failpoint
from tests.unit.agent.storage.builder import Storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path)


def begin_push(link: Path) -> int:
    """Open a link as distribution 2.8 does before it writes it. Return the descriptor."""
    while True:
        try:
            link.parent.mkdir(parents=True, exist_ok=True)
            return os.open(link, os.O_WRONLY | os.O_CREAT, 0o666)
        except (FileNotFoundError, FileExistsError):
            continue  # the registry answers with an error, and the client pushes again


def end_push(descriptor: int, digest: str) -> None:
    os.ftruncate(descriptor, 0)
    os.write(descriptor, digest.encode())
    os.close(descriptor)


def push(link: Path, digest: str) -> None:
    end_push(begin_push(link), digest)


def test_a_push_that_began_before_the_removal_gets_its_tag_back(storage: Storage) -> None:
    old, new = storage.image("app", "v1"), storage.image("app", layers=(b"new",))
    link = storage.tag("app", "v1")
    descriptor = begin_push(link)
    with ThreadPoolExecutor(1) as pool:
        removing = pool.submit(removal.remove_tags, storage.root, "app", {"v1": old})
        wait_until(lambda: not link.exists(), what="the tag is moved")
        end_push(descriptor, new)
        assert removing.result() == []
    assert link.read_text() == new


def test_a_push_that_begins_during_the_removal_makes_the_tag_anew(storage: Storage) -> None:
    old, new = storage.image("app", "v1"), storage.image("app", layers=(b"new",))
    link = storage.tag("app", "v1")
    other = begin_push(link)  # keeps the removal waiting
    with ThreadPoolExecutor(1) as pool:
        removing = pool.submit(removal.remove_tags, storage.root, "app", {"v1": old})
        wait_until(lambda: not link.exists(), what="the tag is moved")
        push(link, new)
        os.close(other)
        assert removing.result() == ["v1"]
    assert link.read_text() == new


def test_a_push_at_any_time_is_never_lost(storage: Storage) -> None:
    old, new = storage.image("app", "v1"), storage.image("app", layers=(b"new",))
    link = storage.tag("app", "v1")
    with ThreadPoolExecutor(1) as pool:
        for _ in range(100):
            storage.image("app", "v1")
            pushing = pool.submit(push, link, new)
            removal.remove_tags(storage.root, "app", {"v1": old})
            pushing.result()
            assert link.read_text() == new, "a push was lost"


def test_a_link_that_stays_open_for_writing_keeps_its_tag(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "WRITER_SECONDS", 0.05)
    old = storage.image("app", "v1")
    with storage.tag("app", "v1").open("r+") as link:
        assert not removal.remove_tags(storage.root, "app", {"v1": old})
        link.write("sha256:" + 64 * "0")
    assert storage.tag("app", "v1").read_text() == "sha256:" + 64 * "0"


def test_what_a_killed_process_has_begun_is_finished(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    tags = ["gone", "half gone", "pushed", "again"]
    digest, newer = storage.image("app", *tags), storage.image("app", layers=(b"new",))
    failpoint.reset()
    monkeypatch.setenv(failpoint.VARIABLE, "4:EIO")
    with pytest.raises(OSError, match="error"):
        removal.remove_tags(storage.root, "app", dict.fromkeys(tags, digest))
    monkeypatch.delenv(failpoint.VARIABLE)
    removed = storage.repositories / "app" / layout.REMOVED
    (removed / f"half gone@{digest}" / layout.TAG_LINK).unlink()
    # a push that had begun before, and one that began afterwards
    (removed / f"pushed@{digest}" / layout.TAG_LINK).write_text(newer)
    push(storage.tag("app", "again"), newer)
    assert removal.remove_tags(storage.root, "app", {}) == []
    found = {path.parents[1].name: path.read_text() for path in storage.repositories.rglob("current/link")}
    assert found == {"pushed": newer, "again": newer}
    assert not removed.exists()
    assert removal.remove_tags(storage.root, "app", {}) == []


def test_a_tag_can_be_removed_again_although_what_was_moved_before_is_still_there(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "_empty", lambda _root, _top: None)
    for _ in range(2):
        digest = storage.image("app", "v1")
        assert removal.remove_tags(storage.root, "app", {"v1": digest}) == ["v1"]
        assert not storage.tag("app", "v1").exists()
