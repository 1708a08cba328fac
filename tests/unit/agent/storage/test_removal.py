"""The removal of a tag beside a push of that tag, and by a process that is killed."""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path

import pytest

from sysreg_cli.agent.storage import layout, removal
from sysreg_cli.host import failpoint
from tests.unit.agent.storage.builder import Storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path)


def push_slowly(link: Path, digest: str, pause: float) -> None:
    """Write a link as distribution 2.8 does, which opens, cuts and writes it; with a pause in the middle."""
    while True:
        try:
            link.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(link, os.O_WRONLY | os.O_CREAT, 0o666)
        except (FileNotFoundError, FileExistsError):
            continue  # the registry answers with an error, and the client pushes again
        break
    time.sleep(pause)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, digest.encode())
    os.close(descriptor)


def test_a_push_of_the_tag_at_the_same_time_is_never_lost(storage: Storage) -> None:
    old, new = storage.image("app", "v1"), storage.image("app", layers=(b"new",))
    chance = random.Random(1)
    outcomes = set()
    for _ in range(60):
        storage.image("app", "v1")
        link = storage.tag("app", "v1")
        pause = chance.choice([0, 0.0005, 0.004])
        push = threading.Thread(target=push_slowly, args=(link, new, pause))
        push.start()
        time.sleep(chance.choice([0, 0.0002, 0.001]))
        outcomes.add(bool(removal.remove_tags(storage.root, "app", {"v1": old})))
        push.join()
        assert link.read_text() == new, "a push was lost"
    assert outcomes == {True, False}


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
    push_slowly(storage.tag("app", "again"), newer, 0)
    assert removal.remove_tags(storage.root, "app", {}) == []
    found = {path.parents[1].name: path.read_text() for path in storage.repositories.rglob("current/link")}
    assert found == {"pushed": newer, "again": newer}
    assert not removed.exists()
    assert removal.remove_tags(storage.root, "app", {}) == []
