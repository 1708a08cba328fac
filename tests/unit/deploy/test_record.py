"""What sysreg-deploy remembers of its work, over versions of itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sysreg_cli.deploy.record import Record
from sysreg_cli.errors import SysregError


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = Record(tmp_path / "state")
    record.take(tmp_path / "file")
    record.applied["x.service"] = "digest"
    record.save()
    assert Record.load(tmp_path / "state") == record
    assert json.loads((tmp_path / "state/deploy.json").read_text())["format"] == 1


def test_without_a_record_nothing_is_deployed(tmp_path: Path) -> None:
    assert Record.load(tmp_path / "state").is_empty


def test_fields_of_a_later_version_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "deploy.json"
    path.write_text(json.dumps({"format": 1, "files": ["/a"], "colours": ["red"]}))
    record = Record.load(tmp_path)
    assert record.owns(Path("/a"))
    record.take(Path("/b"))
    written = json.loads(path.read_text())
    assert (written["files"], written["colours"]) == (["/a", "/b"], ["red"])


def test_a_record_without_format_is_read_and_its_daemons_count_as_of_another_version(tmp_path: Path) -> None:
    (tmp_path / "deploy.json").write_text(json.dumps({"files": ["/a"], "taken": "0123", "retired": 5.0}))
    record = Record.load(tmp_path)
    assert record.owns(Path("/a"))
    assert record.retired == 5.0
    assert record.applied
    assert "sysreg-agent.service" not in record.applied
    assert record.unknown == {}


@pytest.mark.parametrize("text", ['{"format": 2}', "[]", '{"files": ', "null"])
def test_a_record_that_cannot_be_understood_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "deploy.json").write_text(text)
    with pytest.raises(SysregError, match="restore it from a backup"):
        Record.load(tmp_path)


def test_only_new_directories_are_remembered(tmp_path: Path) -> None:
    record = Record(tmp_path / "state")
    record.make_directory(tmp_path / "a/b")
    record.make_directory(tmp_path / "a/b/c")
    made = [path.removeprefix(f"{tmp_path}/") for path in Record.load(tmp_path / "state").directories]
    assert sorted(made) == ["a", "a/b", "a/b/c", "state"]


def test_a_file_of_others_comes_back_as_it_first_was(tmp_path: Path) -> None:
    record, path = Record(tmp_path / "state"), tmp_path / "file"
    path.write_text("theirs")
    path.chmod(0o640)
    record.keep(path)
    path.write_text("edited")
    record.keep(path)
    assert record.put_back(path) == f"restored {path}"
    assert path.read_text() == "theirs"
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_link_of_others_comes_back(tmp_path: Path) -> None:
    record, path = Record(tmp_path / "state"), tmp_path / "link"
    path.symlink_to("/theirs")
    record.keep(path)
    path.unlink()
    record.put_back(path)
    assert str(path.readlink()) == "/theirs"


def test_a_file_without_predecessor_is_removed(tmp_path: Path) -> None:
    record, path = Record(tmp_path / "state"), tmp_path / "file"
    record.take(path)
    path.write_text("ours")
    assert record.put_back(path) == f"removed {path}"
    assert not path.exists()
    assert not record.owns(path)
    assert record.put_back(path) == ""
