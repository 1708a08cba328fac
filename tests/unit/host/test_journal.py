"""The journal gives back what was written, or says that it can't; it never makes something up."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysreg_cli.host.journal import FORMAT, Journal, JournalDamaged

RECORD = {"phase": "prepared", "old": "000001", "new": "000002"}


def test_a_record_comes_back_until_it_is_cleared(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    assert journal.read() is None
    journal.write(RECORD)
    assert journal.read() == RECORD
    journal.clear()
    assert journal.read() is None


def test_only_root_may_read_it(tmp_path: Path) -> None:
    Journal(tmp_path / "journal").write(RECORD)
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("length", [0, 1, 20, 100, -2])
def test_a_truncated_journal_is_damaged(tmp_path: Path, length: int) -> None:
    path = tmp_path / "journal"
    Journal(path).write(RECORD)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(JournalDamaged):
        Journal(path).read()


def test_an_altered_record_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    Journal(path).write(RECORD)
    path.write_bytes(path.read_bytes().replace(b"000002", b"000003"))
    with pytest.raises(JournalDamaged, match="digest"):
        Journal(path).read()


@given(st.binary())
def test_garbage_is_damaged_and_nothing_worse(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal"
    path.write_bytes(data)
    with pytest.raises(JournalDamaged):
        Journal(path).read()


def test_a_record_of_version_0_1_0_has_no_number_and_is_read(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_text(
        '{"record": "{\\"new\\": \\"000002\\", \\"old\\": \\"000001\\", \\"phase\\": \\"prepared\\"}",'
        ' "sha256": "e105ac3a1ec1890bff58f62ed2338971d6931d1da8d600e7f88eeb8c6dff6aa5"}\n'
    )
    assert Journal(path).read() == RECORD


def test_a_record_of_a_newer_format_is_not_guessed_at(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    text = json.dumps({**RECORD, "format": FORMAT + 1})
    path.write_text(json.dumps({"record": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}))
    with pytest.raises(JournalDamaged, match="another version"):
        Journal(path).read()
