"""Collections that can't work: they end in time, say why, lose nothing, and leave writes possible."""

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
from sysreg_cli.agent.garbage.result import PHASES, Options
from sysreg_cli.agent.garbage.run import Collection
from sysreg_cli.agent.garbage.service import CollectionService
from sysreg_cli.errors import SysregError
from tests.functional.garbage.workshop import Workshop, in_background, mounted


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


@pytest.fixture
def unmount() -> Iterator[list[Path]]:
    mounts: list[Path] = []
    yield mounts
    for path in reversed(mounts):
        subprocess.run(["umount", "-l", path], check=False)


def test_everything_that_should_stay_stays_and_everything_else_goes(workshop: Workshop) -> None:
    needed = workshop.fill()
    result = workshop.collect(delete_untagged=True)
    assert (result.outcome, result.error) == ("done", "")
    assert workshop.storage.all_blobs() == needed
    assert result.pinned == 2
    assert not workshop.pins
    assert not (workshop.storage.repositories / "gone").exists()
    assert (workshop.storage.repositories / "push/under-way").exists()
    again = workshop.collect(delete_untagged=True)
    assert (again.outcome, again.blobs, again.writes_held) == ("done", 0, 0.0)


def test_a_registry_nothing_was_pushed_to_is_collected_without_complaint(workshop: Workshop) -> None:
    result = workshop.collect()
    assert (result.outcome, result.blobs, result.warnings) == ("done", 0, [])


@pytest.mark.parametrize("phase", [phase for phase in PHASES if phase != "restart"])
def test_cancelled_in_any_phase_nothing_is_lost_and_writes_are_possible(
    workshop: Workshop, phase: str
) -> None:
    needed = workshop.fill()

    def cancel(now: str, collection: Collection) -> None:
        if now == "drain":
            # Somebody was let write since the first look: what that found doesn't count any more.
            workshop.writes_ended()
        if now == phase:
            collection.cancelled.set()

    result = workshop.collect(cancel, delete_untagged=True)
    # Cancelled in the last phase, it is done.
    assert result.outcome == ("done" if phase == "verify" else "cancelled"), result
    assert needed <= workshop.storage.all_blobs()
    assert not workshop.pins
    assert workshop.writes_are_open
    assert workshop.collect(delete_untagged=True).outcome == "done"
    assert workshop.storage.all_blobs() == needed


def test_a_cancelled_collector_is_ended(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop.fill()
    workshop.program(monkeypatch, "#!/bin/sh\ntrap '' TERM\nexec sleep 1000\n")
    collection = workshop.collection()
    thread = in_background(collection.run)
    while collection.progress.phase != "sweep":
        time.sleep(0.01)
    assert not workshop.writes_are_open
    collection.cancelled.set()
    thread.join(10)
    assert collection.result.outcome == "cancelled"
    assert workshop.writes_are_open


def test_a_missing_collector_is_named(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop.fill()
    monkeypatch.setenv("PATH", "/nowhere")
    result = workshop.collect()
    assert result.outcome == "failed"
    assert "collector is missing" in result.error
    assert workshop.writes_are_open
    assert not workshop.pins


def test_a_collector_that_fails_half_way_is_quoted_and_what_it_freed_is_counted(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = workshop.fill()
    victim = workshop.storage.path(workshop.storage.blob(b"gone" * 1000)).parent
    workshop.program(
        monkeypatch,
        f"#!/bin/sh\nrm -r {victim}\necho 'failed to garbage collect: the moon is full' >&2\nexit 1\n",
    )
    result = workshop.collect()
    assert result.outcome == "failed"
    assert result.error.startswith(
        "the registry's collector failed: failed to garbage collect: the moon is full"
    )
    assert (result.blobs, result.bytes) == (1, 4000)
    assert result.remaining > 0
    assert needed <= workshop.storage.all_blobs()
    assert workshop.writes_are_open
    assert not workshop.pins


def test_what_a_collector_killed_half_way_has_left_goes_with_the_next_collection(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its manifest is gone, and then nothing but our memory tells a young layer from one being pushed."""
    needed = workshop.fill()
    workshop.storage.age = 5
    young = workshop.storage.image("young", "1", layers=(b"young",))
    workshop.storage.delete("young", young)
    with monkeypatch.context() as patch:
        victim = workshop.storage.path(young).parent
        workshop.program(patch, f"#!/bin/sh\nrm -r {victim}\nkill -KILL $$\n")
        killed = workshop.collect(delete_untagged=True)
    assert "signal 9" in killed.error
    assert killed.blobs == 1
    assert workshop.collection(dry_run=True, delete_untagged=True).run().blobs == killed.remaining
    result = workshop.collect(delete_untagged=True)
    assert (result.outcome, result.blobs, result.pinned) == ("done", killed.remaining, 2)
    assert workshop.storage.all_blobs() == needed
    assert not (workshop.storage.repositories / "young").exists()
    assert [path.name for path in (workshop.state / "garbage").iterdir() if "freeing" in path.name] == []


def test_a_collector_that_hangs_is_ended_at_the_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop = Workshop(tmp_path, collect_timeout=2)
    workshop.fill()
    workshop.program(monkeypatch, "#!/bin/sh\nexec sleep 1000\n")
    begun = time.monotonic()
    result = workshop.collect()
    assert time.monotonic() - begun < 10
    assert "did not end within 2 s" in result.error
    assert workshop.writes_are_open


def test_a_collector_that_damages_an_image_is_found_out(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.fill()
    victim = workshop.storage.path(workshop.storage.blob(b"nested")).parent
    workshop.program(monkeypatch, f"#!/bin/sh\nrm -r {victim}\n")
    result = workshop.collect()
    assert result.outcome == "failed"
    assert "images were damaged: app/nested:1" in result.error


def test_storage_that_is_read_only_is_named(workshop: Workshop, unmount: list[Path]) -> None:
    needed = workshop.fill()
    mounted("--bind", str(workshop.storage.root), str(workshop.storage.root))
    unmount.append(workshop.storage.root)
    mounted("-o", "remount,bind,ro", str(workshop.storage.root))
    result = workshop.collect()
    assert result.outcome == "failed"
    assert "Read-only file system" in result.error
    assert needed <= workshop.storage.all_blobs()
    assert workshop.writes_are_open


def test_on_a_full_disk_what_goes_anyhow_makes_room_for_what_has_to_be_written(
    workshop: Workshop, unmount: list[Path]
) -> None:
    for place, size in ((workshop.storage.root, "1m"), (workshop.state / "garbage", "8k")):
        place.mkdir(exist_ok=True)
        mounted("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place))
        unmount.append(place)
    needed = workshop.fill()
    for place in unmount:
        with pytest.raises(OSError, match="No space left"):
            (place / "filler").write_bytes(b"x" * 2_000_000)
    service = CollectionService(workshop.settings)
    service.start(Options(delete_untagged=True))
    wait_until(lambda: service.status(names=True)["state"] == "idle", 60, what="the collection ends")
    last = service.status(names=True)["last_result"]
    assert (last["outcome"], last["error"], last["pinned"]) == ("done", "", 2)
    assert last["bytes"] > 4000
    assert workshop.storage.all_blobs() == needed
    assert workshop.writes_are_open


def test_nothing_starts_when_the_start_cannot_be_written_down(
    workshop: Workshop, unmount: list[Path]
) -> None:
    (workshop.state / "garbage").mkdir()
    mounted("-t", "tmpfs", "-o", "ro", "tmpfs", str(workshop.state / "garbage"))
    unmount.append(workshop.state / "garbage")
    with pytest.raises(SysregError, match="Read-only file system"):
        CollectionService(workshop.settings).start(Options())
    assert workshop.writes_are_open


def test_a_disk_too_full_for_anything_is_named(workshop: Workshop, unmount: list[Path]) -> None:
    """No place for one more file, not even for the output of the collector."""
    needed = workshop.fill()
    (workshop.state / "garbage").mkdir()
    mounted("-t", "tmpfs", "-o", "size=4k,nr_inodes=1", "tmpfs", str(workshop.state / "garbage"))
    unmount.append(workshop.state / "garbage")
    result = workshop.collect()
    assert result.outcome == "failed"
    assert "No space left on device" in result.error
    assert str(workshop.state / "garbage") in result.error
    assert needed <= workshop.storage.all_blobs()
    assert workshop.writes_are_open


def test_a_storage_directory_that_is_gone_is_an_error_and_no_empty_registry(workshop: Workshop) -> None:
    shutil.rmtree(workshop.storage.root)
    result = workshop.collect()
    assert result.outcome == "failed"
    assert str(workshop.storage.root) in result.error


def test_a_registry_that_cannot_say_whether_a_push_is_under_way_is_not_collected(workshop: Workshop) -> None:
    workshop.fill()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        text = workshop.config.read_text()
        workshop.config.write_text(re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{port}", text))
        result = workshop.collect()
    assert "has no http.debug.prometheus" in result.error
    assert workshop.writes_are_open


def test_a_cache_that_no_restart_empties_is_refused(workshop: Workshop) -> None:
    workshop.write_config(", cache: {blobdescriptor: redis}")
    assert "outlives a restart" in workshop.collect().error


def test_damage_that_stops_the_collector_is_named_before_writes_are_held(workshop: Workshop) -> None:
    needed = workshop.fill()
    digest = workshop.storage.image("torn", "1", layers=(b"torn",))
    workshop.storage.revision("torn", digest).write_bytes(b"")
    result = workshop.collect()
    assert f"torn: the link of manifest {digest} is empty or damaged" in result.error
    assert result.writes_held == 0.0
    assert needed <= workshop.storage.all_blobs()


def test_broken_images_are_reported_and_the_rest_is_collected(workshop: Workshop) -> None:
    needed = workshop.fill()
    workshop.storage.image("torn", "1", layers=(b"lost",))
    workshop.storage.lose(workshop.storage.blob(b"lost"))
    workshop.storage.image("torn", "2", layers=(b"torn",))
    workshop.storage.tag("torn", "2").write_bytes(b"")
    (workshop.storage.repositories / "torn/_uploads/interrupted").mkdir(parents=True)
    before = workshop.storage.all_blobs()
    result = workshop.collect()
    assert result.outcome == "done"
    assert [warning.partition(": ")[0] for warning in result.warnings] == ["torn:1", "torn:2"]
    assert needed <= workshop.storage.all_blobs()
    assert before - workshop.storage.all_blobs() == before - needed - {
        blob for blob in workshop.storage.all_blobs() if blob not in needed
    }


def test_a_registry_with_2500_repositories_is_collected(workshop: Workshop, unmount: list[Path]) -> None:
    mounted("-t", "tmpfs", "tmpfs", str(workshop.storage.root))  # 12,500 small files
    unmount.append(workshop.storage.root)
    for number in range(2500):
        workshop.storage.put(f"many/{number}", {"schemaVersion": 2, "manifests": [], "n": number}, "1")
        (workshop.storage.repositories / f"many/{number}/_layers").mkdir()
    workshop.storage.delete("gone", workshop.storage.image("gone", "1", layers=(b"gone",)))
    before = len(workshop.storage.all_blobs())
    result = workshop.collect()
    assert (result.outcome, result.blobs) == ("done", 3)
    assert len(workshop.storage.all_blobs()) == before - 3


def test_a_user_without_rights_cannot_take_the_write_lock(workshop: Workshop) -> None:
    workshop.collect()
    lock = workshop.state / "write-fence"
    for directory in [workshop.state, *workshop.state.parents]:
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
