"""What one reading of the storage remembers for the next one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sysreg_cli.agent.storage import recent
from sysreg_cli.agent.storage.manifest import ManifestReader, StoredManifest
from tests.unit.agent.storage.builder import Storage


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[recent._Recent]:
    """A memory of its own for each test."""
    own = recent._Recent()
    monkeypatch.setattr(recent, "_recent", own)
    yield own
    own.remember({})


def read(root: Path, digest: str) -> StoredManifest | None:
    with recent.reading(root) as snapshot:
        return snapshot.manifest(digest)


def test_a_manifest_whose_blob_is_unchanged_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = Storage(tmp_path).image("app", "1")
    first = read(tmp_path, digest)
    assert first is not None
    monkeypatch.setattr(ManifestReader, "content", None)  # to read one would raise
    assert read(tmp_path, digest) is first


def test_a_manifest_that_was_damaged_or_mended_since_is_read_again(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    digest = storage.image("app", "1")
    (data,) = tmp_path.rglob(f"{digest.partition(':')[2]}/data")
    content = data.read_bytes()
    assert read(tmp_path, digest) is not None
    data.write_bytes(content[:-1] + b" ")
    assert read(tmp_path, digest) is None
    data.write_bytes(content)
    assert read(tmp_path, digest) is not None
    data.unlink()
    assert read(tmp_path, digest) is None


def test_what_was_read_is_forgotten_after_a_while(
    tmp_path: Path, forgotten: recent._Recent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent, "_SECONDS", 0.0)
    read(tmp_path, Storage(tmp_path).image("app", "1"))
    assert forgotten._timer is not None
    forgotten._timer.join(10)
    assert not forgotten.known()
