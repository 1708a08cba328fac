"""The database of refusals: damage, full disks, and what the files reveal."""

import contextlib
import errno
import os
import sqlite3
from pathlib import Path

import pytest

from sysreg_cli.token_server.credentials import from_pair
from sysreg_cli.token_server.fingerprints import Fingerprints
from sysreg_cli.token_server.refusal_store import Refusal, RefusalStore

PAIR = b"pair"
REFUSAL = Refusal(b"name", 1000.5, 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "refused.db"


def stored(path: Path) -> list[tuple[bytes, Refusal]]:
    with contextlib.closing(RefusalStore(path)) as store:
        return store.load(100)


def save(path: Path, fingerprint: bytes = PAIR, refusal: Refusal = REFUSAL) -> None:
    with contextlib.closing(RefusalStore(path)) as store:
        store.save(fingerprint, refusal)


def test_the_latest_refusals_are_loaded_in_the_order_of_time(path: Path) -> None:
    for number in (3, 1, 2):
        save(path, b"%d" % number, Refusal(b"name", number, 1))
    save(path, b"1", Refusal(b"name", 4, 2))
    with contextlib.closing(RefusalStore(path)) as store:
        assert store.load(2) == [(b"3", Refusal(b"name", 3, 1)), (b"1", Refusal(b"name", 4, 2))]
        store.save(b"5", Refusal(b"name", 5, 1), dropped=[b"1", b"2"])
        store.remove([b"3"])
        assert [fingerprint for fingerprint, _ in store.load(100)] == [b"5"]
        store.clear()
    assert stored(path) == []


@pytest.mark.parametrize("damage", [b"no database at all", b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_damaged_database_is_replaced(path: Path, damage: bytes) -> None:
    path.write_bytes(damage)
    save(path)
    assert stored(path) == [(PAIR, REFUSAL)]


def test_a_database_of_another_layout_is_replaced(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE refused (something)")
    save(path)
    assert stored(path) == [(PAIR, REFUSAL)]


def test_a_database_that_cannot_be_opened_is_left_alone_and_refusals_are_kept_in_memory(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(path)
    before = path.read_bytes()
    wal = path.with_name("refused.db-wal")
    wal.mkdir()  # SQLite reports the same error for a full disk
    with contextlib.closing(RefusalStore(path)) as store:
        assert "unable to open database file" in caplog.text
        store.save(b"other", REFUSAL)
        assert store.load(100) == [(b"other", REFUSAL)]
        store.clear()
    assert path.read_bytes() == before
    wal.rmdir()
    assert stored(path) == [(PAIR, REFUSAL)]


def test_a_disk_too_full_for_a_new_database_is_a_warning(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        store = RefusalStore(path)
    assert "No space left on device" in caplog.text
    store.save(PAIR, REFUSAL)
    assert store.load(1) == [(PAIR, REFUSAL)]


def test_a_write_that_fails_is_a_warning(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = RefusalStore(path)
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("DROP TABLE refused")
    store.save(PAIR, REFUSAL)
    assert "won't survive a restart" in caplog.text


def test_the_files_hold_no_credentials_and_are_for_their_owner_alone(path: Path) -> None:
    fingerprints = Fingerprints(path.parent)
    fingerprint = fingerprints.of_credentials(from_pair("nameofauser", "secretofauser"))
    save(path, fingerprint, Refusal(fingerprints.of_name("nameofauser"), 1, 1))
    assert len(list(path.parent.iterdir())) >= 2
    for file in path.parent.iterdir():
        assert file.stat().st_mode & 0o077 == 0
        assert b"ofauser" not in file.read_bytes()
