"""The reading of all blobs: damage is named with its tags, and nobody waits for a reading in vain."""

from __future__ import annotations

import errno
import io
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from sysreg_cli.agent.health.blobs import BlobReader, Stopped
from sysreg_cli.errors import Conflict, SysregError
from sysreg_cli.settings import AgentSettings, PathSettings, RegistrySettings, Settings
from sysreg_cli.v1.health import BlobReading
from tests.unit.agent.storage.builder import Storage

_SECONDS = 60


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "storage")


@pytest.fixture
def reader(storage: Storage, tmp_path: Path) -> BlobReader:
    config = tmp_path / "config.yml"
    config.write_text(f"storage:\n  filesystem:\n    rootdirectory: {storage.root}\n")
    return BlobReader(
        Settings(
            registry=RegistrySettings(config=config, storage=storage.root),
            agent=AgentSettings(restart_command="true {unit}"),
            paths=PathSettings(state=tmp_path),
        )
    )


def read(reader: BlobReader) -> BlobReading:
    return reader.start(lambda: True).result(_SECONDS)


def damage(storage: Storage, digest: str) -> None:
    """Give a blob another content of the same size, as a disk does."""
    path = storage.path(digest)
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))


def test_a_damaged_layer_is_named_with_every_tag_that_needs_it_in_any_repository(
    storage: Storage, reader: BlobReader
) -> None:
    storage.image("app", "v1", "v2", layers=(b"shared", b"own"))
    storage.image("other", "v1", layers=(b"shared",))
    storage.image("other", "sound", layers=(b"sound",))
    whole = read(reader)
    assert (whole.damages, whole.images) == ((), ())
    damage(storage, storage.blob(b"shared"))
    found = read(reader)
    assert (found.blobs, found.bytes) == (whole.blobs, whole.bytes)
    assert found.images == ("app:v1", "app:v2", "other:v1")
    assert len(found.damages) == 2
    assert all("is damaged" in it and "registry-image-delete" in it for it in found.damages)


def test_a_damaged_blob_that_no_tag_needs_is_named_because_a_push_would_take_it_as_good(
    storage: Storage, reader: BlobReader
) -> None:
    damage(storage, storage.upload("app", b"of no image"))
    found = read(reader)
    assert found.images == ()
    (line,) = found.damages
    assert "no tag needs it" in line
    assert "system registry-garbage-collect" in line


def test_a_damaged_manifest_is_deleted_by_its_tags_and_its_digest(
    storage: Storage, reader: BlobReader
) -> None:
    digest = storage.image("app", "v1", layers=(b"layer",))
    damage(storage, digest)
    found = read(reader)
    assert found.images == ("app:v1", f"app@{digest}")
    assert f"app:v1 app@{digest}" in found.damages[0]


def test_one_reading_at_a_time_which_ends_when_its_client_has_gone_or_the_agent_stops(
    storage: Storage, reader: BlobReader
) -> None:
    storage.image("app", "v1", layers=(b"layer",))
    wanted, asked = threading.Event(), threading.Event()

    def wait() -> bool:
        asked.set()
        wanted.wait(_SECONDS)
        return False

    reading = reader.start(wait)
    assert asked.wait(_SECONDS)
    with pytest.raises(Conflict, match="being read already"):
        reader.start(lambda: True)
    wanted.set()
    with pytest.raises(Stopped):
        reading.result(_SECONDS)
    assert read(reader).damages == (), "the next one begins"
    reader.stop()
    with pytest.raises(Stopped):
        read(reader)


@pytest.mark.parametrize("when", ["opened", "read"])
def test_a_blob_on_a_bad_sector_is_damaged_and_hides_no_other(
    storage: Storage, reader: BlobReader, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    storage.image("app", "v1", layers=(b"bad sector",))
    storage.image("other", "v1", layers=(b"layer",))
    damage(storage, storage.blob(b"layer"))
    bad = storage.path(storage.blob(b"bad sector"))
    really_open = os.open

    class Bad(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def read(self, _size: int = -1) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def failing_open(path: Path, *words: Any, **options: Any) -> int:
        if path == bad and when == "opened":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return really_open(path, *words, **options)

    def failing_file(descriptor: int, *words: Any, **options: Any) -> Any:
        if when == "read" and Path(f"/proc/self/fd/{descriptor}").readlink() == bad:
            os.close(descriptor)
            return Bad()
        return really_fdopen(descriptor, *words, **options)

    really_fdopen = os.fdopen
    monkeypatch.setattr("sysreg_cli.agent.health.blobs.os.open", failing_open)
    monkeypatch.setattr("sysreg_cli.agent.health.blobs.os.fdopen", failing_file)
    assert read(reader).images == ("app:v1", "other:v1")


def test_a_storage_in_which_nothing_can_be_read_is_an_error_and_no_image_is_to_be_deleted(
    storage: Storage, reader: BlobReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        storage.image("app", f"v{number}", layers=(bytes([number]),))

    def failing(*_: object) -> bool:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("sysreg_cli.agent.health.blobs._is_right", failing)
    with pytest.raises(SysregError, match="Input/output error"):
        read(reader)
