"""A collection that fails ends in time, says why, loses nothing, and releases the write lock."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.waiting import wait_until
from sysreg_cli.agent.garbage.collection import Collection
from sysreg_cli.agent.garbage.service import CollectionService
from sysreg_cli.errors import SysregError
from sysreg_cli.v1.collections import CollectionOptions, Phase, State
from tests.functional.garbage.sandbox import Sandbox, in_background, mounted


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


@pytest.fixture
def unmount() -> Iterator[list[Path]]:
    mounts: list[Path] = []
    yield mounts
    for path in reversed(mounts):
        subprocess.run(["umount", "-l", path], check=False)


def test_everything_that_should_stay_stays_and_everything_else_goes(sandbox: Sandbox) -> None:
    needed = sandbox.fill()
    result = sandbox.collect(delete_untagged=True)
    assert (result.outcome, result.error) == ("done", "")
    assert sandbox.storage.all_blobs() == needed
    assert result.pinned == 2
    assert not sandbox.pins
    assert not (sandbox.storage.repositories / "gone").exists()
    assert (sandbox.storage.repositories / "push/under-way").exists()
    again = sandbox.collect(delete_untagged=True)
    assert (again.outcome, again.blobs, again.writes_held) == ("done", 0, 0.0)


def test_a_registry_nothing_was_pushed_to_is_collected_without_complaint(sandbox: Sandbox) -> None:
    result = sandbox.collect()
    assert (result.outcome, result.blobs, result.warnings) == ("done", 0, ())


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase not in (Phase.RESTART, Phase.RECOVER)])
def test_cancelled_in_any_phase_nothing_is_lost_and_writes_are_possible(
    sandbox: Sandbox, phase: Phase
) -> None:
    needed = sandbox.fill()

    def cancel(now: Phase, collection: Collection) -> None:
        if now == Phase.DRAIN:
            # A write token was issued since the scan, so the storage is read again.
            sandbox.writes_ended()
        if now == phase:
            collection.recorder.cancelled.set()

    result = sandbox.collect(cancel, delete_untagged=True)
    assert result.outcome == "cancelled", result
    assert needed <= sandbox.storage.all_blobs()
    assert not sandbox.pins
    assert sandbox.writes_are_open
    assert sandbox.collect(delete_untagged=True).outcome == "done"
    assert sandbox.storage.all_blobs() == needed


def test_a_cancelled_collector_is_ended(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.fill()
    sandbox.program(monkeypatch, "#!/bin/sh\ntrap '' TERM\nexec sleep 1000\n")
    collection = sandbox.collection()
    thread = in_background(collection.run)
    while collection.recorder.progress.phase != Phase.SWEEP:
        time.sleep(0.01)
    assert not sandbox.writes_are_open
    collection.recorder.cancelled.set()
    thread.join(10)
    assert collection.recorder.result.outcome == "cancelled"
    assert sandbox.writes_are_open


def test_a_missing_collector_is_named(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.fill()
    monkeypatch.setenv("PATH", "/nowhere")
    result = sandbox.collect()
    assert result.outcome == "failed"
    assert "collector is missing" in result.error
    assert result.writes_held == 0.0
    assert sandbox.collect(dry_run=True).error == result.error
    assert sandbox.writes_are_open
    assert not sandbox.pins


def test_what_a_collector_leaves_that_fails_half_way_is_deleted_without_it(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    needed = sandbox.fill()
    victim = sandbox.storage.path(sandbox.storage.blob(b"gone" * 1000)).parent
    sandbox.program(
        monkeypatch,
        f"#!/bin/sh\nrm -r {victim}\necho 'failed to garbage collect: the moon is full' >&2\nexit 1\n",
    )
    result = sandbox.collect(delete_untagged=True)
    assert (result.outcome, result.error, result.remaining) == ("done", "", 0)
    assert "without the collector: the registry's collector failed: failed to garbage collect" in caplog.text
    assert sandbox.storage.all_blobs() == needed
    assert sandbox.writes_are_open
    assert not sandbox.pins


def test_what_a_collector_killed_half_way_has_left_goes_with_the_next_collection(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its manifest is gone. Only the record on disk tells its layers from those of a push under way."""
    needed = sandbox.fill()
    sandbox.storage.age = 5
    young = sandbox.storage.image("young", "1", layers=(b"young",))
    sandbox.storage.delete("young", young)
    with monkeypatch.context() as patch:
        victim = sandbox.storage.path(young).parent
        sandbox.program(patch, f"#!/bin/sh\nrm -r {victim}\nkill -KILL $$\n")
        killed = sandbox.collect(delete_untagged=True)
    assert "signal 9" in killed.error
    assert killed.blobs == 1
    assert sandbox.collection(dry_run=True, delete_untagged=True).run().blobs == killed.remaining
    result = sandbox.collect(delete_untagged=True)
    assert (result.outcome, result.blobs, result.pinned) == ("done", killed.remaining, 2)
    assert sandbox.storage.all_blobs() == needed
    assert not (sandbox.storage.repositories / "young").exists()
    assert [path.name for path in (sandbox.state / "garbage").iterdir() if "freeing" in path.name] == []


def test_a_collector_that_hangs_is_ended_at_the_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = Sandbox(tmp_path, collect_timeout=2)
    sandbox.fill()
    sandbox.program(monkeypatch, "#!/bin/sh\nexec sleep 1000\n")
    begun = time.monotonic()
    result = sandbox.collect()
    assert time.monotonic() - begun < 10
    assert "did not end within 2 s" in result.error
    assert sandbox.writes_are_open


@pytest.mark.parametrize("what", ["layer", "manifest"])
def test_a_collector_that_damages_an_image_is_found_out(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    sandbox.fill()
    manifest = sandbox.storage.tag("app/nested", "1").read_text()
    digest = sandbox.storage.blob(b"nested") if what == "layer" else manifest
    victim = sandbox.storage.path(digest).parent
    sandbox.program(monkeypatch, f"#!/bin/sh\nrm -r {victim}\n")
    result = sandbox.collect()
    assert result.outcome == "failed"
    assert "images were damaged: app/nested:1" in result.error


def test_storage_that_is_read_only_is_named(sandbox: Sandbox, unmount: list[Path]) -> None:
    needed = sandbox.fill()
    mounted("--bind", str(sandbox.storage.root), str(sandbox.storage.root))
    unmount.append(sandbox.storage.root)
    mounted("-o", "remount,bind,ro", str(sandbox.storage.root))
    result = sandbox.collect()
    assert result.outcome == "failed"
    assert "is on a read-only file system; mount it writable" in result.error
    assert result.writes_held == 0.0
    assert sandbox.collect(dry_run=True).error == result.error
    assert needed <= sandbox.storage.all_blobs()
    assert sandbox.writes_are_open


def test_on_a_full_disk_what_goes_anyhow_makes_room_for_what_has_to_be_written(
    sandbox: Sandbox, unmount: list[Path]
) -> None:
    for place, size in ((sandbox.storage.root, "1m"), (sandbox.state / "garbage", "8k")):
        place.mkdir(exist_ok=True)
        mounted("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place))
        unmount.append(place)
    needed = sandbox.fill()
    for place in unmount:
        with pytest.raises(OSError, match="No space left"):
            (place / "filler").write_bytes(b"x" * 2_000_000)
    service = CollectionService(sandbox.settings)
    service.start(CollectionOptions(delete_untagged=True))
    wait_until(lambda: service.status(names=True).state == State.IDLE, 60, what="the collection ends")
    last = service.status(names=True).last_result
    assert last is not None
    assert (last.outcome, last.error, last.pinned) == ("done", "", 2)
    assert last.bytes > 4000
    assert sandbox.storage.all_blobs() == needed
    assert sandbox.writes_are_open


def test_nothing_starts_when_the_start_cannot_be_written_down(sandbox: Sandbox, unmount: list[Path]) -> None:
    (sandbox.state / "garbage").mkdir()
    mounted("-t", "tmpfs", "-o", "ro", "tmpfs", str(sandbox.state / "garbage"))
    unmount.append(sandbox.state / "garbage")
    with pytest.raises(SysregError, match="Read-only file system"):
        CollectionService(sandbox.settings).start(CollectionOptions())
    assert sandbox.writes_are_open


def test_a_disk_too_full_for_anything_is_named(sandbox: Sandbox, unmount: list[Path]) -> None:
    """There is no room for one more file, not even for the output of the collector."""
    needed = sandbox.fill()
    (sandbox.state / "garbage").mkdir()
    mounted("-t", "tmpfs", "-o", "size=4k,nr_inodes=1", "tmpfs", str(sandbox.state / "garbage"))
    unmount.append(sandbox.state / "garbage")
    result = sandbox.collect()
    assert result.outcome == "failed"
    assert "No space left on device" in result.error
    assert str(sandbox.state / "garbage") in result.error
    assert needed <= sandbox.storage.all_blobs()
    assert sandbox.writes_are_open


def test_a_storage_directory_that_is_gone_is_an_error_and_no_empty_registry(sandbox: Sandbox) -> None:
    shutil.rmtree(sandbox.storage.root)
    result = sandbox.collect()
    assert result.outcome == "failed"
    assert str(sandbox.storage.root) in result.error


def test_a_registry_that_cannot_say_whether_a_push_is_under_way_is_not_collected(sandbox: Sandbox) -> None:
    sandbox.fill()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        text = sandbox.config.read_text()
        sandbox.config.write_text(re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{port}", text))
        result = sandbox.collect()
    assert "has no http.debug.prometheus" in result.error
    assert sandbox.writes_are_open


def test_a_cache_that_no_restart_empties_is_refused(sandbox: Sandbox) -> None:
    sandbox.write_config(", cache: {blobdescriptor: redis}")
    assert "outlives a restart" in sandbox.collect().error


def test_damage_at_which_the_collector_would_stop_stops_no_collection(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = sandbox.fill()
    before = sandbox.storage.all_blobs()
    digest = sandbox.storage.image("torn", "1", layers=(b"torn",))
    needed |= sandbox.storage.all_blobs() - before
    sandbox.storage.path(digest).write_bytes(b"")
    sandbox.program(monkeypatch, "#!/bin/sh\nexit 1\n")
    result = sandbox.collect(delete_untagged=True)
    assert (result.outcome, result.error) == ("done", "")
    assert [warning.partition(": ")[0] for warning in result.warnings] == ["torn:1"]
    assert sandbox.storage.all_blobs() == needed


def test_broken_images_are_reported_and_the_rest_is_collected(sandbox: Sandbox) -> None:
    needed = sandbox.fill()
    sandbox.storage.image("torn", "1", layers=(b"lost",))
    sandbox.storage.lose(sandbox.storage.blob(b"lost"))
    sandbox.storage.image("torn", "2", layers=(b"torn",))
    sandbox.storage.tag("torn", "2").write_bytes(b"")
    (sandbox.storage.repositories / "torn/_uploads/interrupted").mkdir(parents=True)
    before = sandbox.storage.all_blobs()
    result = sandbox.collect()
    assert result.outcome == "done"
    assert [warning.partition(": ")[0] for warning in result.warnings] == ["torn:1", "torn:2"]
    assert needed <= sandbox.storage.all_blobs()
    assert before - sandbox.storage.all_blobs() == before - needed - {
        blob for blob in sandbox.storage.all_blobs() if blob not in needed
    }


def test_a_registry_with_2500_repositories_is_collected(sandbox: Sandbox, unmount: list[Path]) -> None:
    mounted("-t", "tmpfs", "tmpfs", str(sandbox.storage.root))  # 12,500 small files
    unmount.append(sandbox.storage.root)
    for number in range(2500):
        sandbox.storage.put(f"many/{number}", {"schemaVersion": 2, "manifests": [], "n": number}, "1")
        (sandbox.storage.repositories / f"many/{number}/_layers").mkdir()
    sandbox.storage.delete("gone", sandbox.storage.image("gone", "1", layers=(b"gone",)))
    before = len(sandbox.storage.all_blobs())
    result = sandbox.collect()
    assert (result.outcome, result.blobs) == ("done", 3)
    assert len(sandbox.storage.all_blobs()) == before - 3


def test_a_user_without_rights_cannot_take_the_write_lock(sandbox: Sandbox) -> None:
    sandbox.collect()
    lock = sandbox.state / "write-fence"
    for directory in [sandbox.state, *sandbox.state.parents]:
        if directory.stat().st_uid == os.getuid() and str(directory).startswith("/tmp/pytest"):
            directory.chmod(0o755)
    taken = subprocess.run(
        [
            "setpriv",
            "--reuid",
            "nobody",
            "--regid",
            "nogroup",
            "--clear-groups",
            "flock",
            "--nonblock",
            lock,
            "true",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert taken.returncode != 0
    assert "Permission denied" in taken.stderr
