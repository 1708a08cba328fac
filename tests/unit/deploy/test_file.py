"""Files and links: created, repaired, never taken from others, removed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from sysreg_cli.deploy.file import File, Link
from sysreg_cli.deploy.machine import Attributes
from sysreg_cli.errors import SysregError
from tests.unit.deploy.machine import FakePrograms, apply, context_of, required


def test_a_file_is_created_with_its_directory_and_removed(tmp_path: Path) -> None:
    context, file = context_of(tmp_path / "state"), File(tmp_path / "etc/new/file", b"text\n")
    change = required(file, context)
    assert change.diff.splitlines()[-1] == "+text"
    assert not file.path.parent.exists(), "comparing changes nothing"
    assert apply(file, context) == f"create {file.path}"
    assert file.path.read_bytes() == b"text\n"
    assert file.remove(context) == f"removed {file.path}"
    assert not file.path.exists()
    assert file.remove(context) == ""


def test_a_file_that_was_edited_is_repaired_and_its_edited_text_kept(tmp_path: Path) -> None:
    context, file = context_of(tmp_path / "state"), File(tmp_path / "file", b"text\n")
    apply(file, context)
    file.path.write_text("edited\n")
    assert apply(file, context) == f"change {file.path}"
    (copy,) = (tmp_path / "state/backup").iterdir()
    assert copy.read_text() == "edited\n"
    file.remove(context)
    assert not file.path.exists(), "no file of others was there before"


def test_a_file_of_others_is_foreign_and_comes_back(tmp_path: Path) -> None:
    context, file = context_of(tmp_path / "state"), File(tmp_path / "file", b"text\n")
    file.path.write_text("theirs\n")
    assert file.remove(context) == "", "it is not removed either"
    assert required(file, context).foreign
    apply(file, context)
    file.path.write_text("edited\n")
    apply(file, context)
    assert file.remove(context) == f"restored {file.path}"
    assert file.path.read_text() == "theirs\n"


def test_a_configuration_file_as_its_package_brought_it_is_not_foreign(tmp_path: Path) -> None:
    file, digest = File(tmp_path / "file", b"text\n"), hashlib.md5(b"theirs\n").hexdigest()
    listing = "dpkg-query -W -f ${Conffiles}\n docker-registry"
    programs = FakePrograms(outputs={listing: f" /etc/other 0\n {file.path} {digest}\n"})
    context = context_of(tmp_path / "state", programs)
    file.path.write_text("theirs\n")
    assert not required(file, context).foreign
    file.path.write_text("edited\n")
    assert required(file, context).foreign


def test_mode_and_owner_are_repaired_alone(tmp_path: Path) -> None:
    context, file = context_of(tmp_path / "state"), File(tmp_path / "file", b"text\n", Attributes(0o640))
    apply(file, context)
    file.path.chmod(0o666)
    assert "to 0640 " in apply(file, context)


def test_a_seed_belongs_to_the_operator(tmp_path: Path) -> None:
    context, seed = context_of(tmp_path / "state"), File(tmp_path / "file", b"text\n", seed=True)
    apply(seed, context)
    seed.path.write_text("edited\n")
    assert seed.compare(context) is None
    assert seed.remove(context).startswith("kept")
    seed.path.write_text("text\n")
    assert seed.remove(context).startswith("removed")


def test_only_files_are_replaced(tmp_path: Path) -> None:
    context, file = context_of(tmp_path / "state"), File(tmp_path / "file", b"text\n")
    file.path.mkdir()
    change = required(file, context)
    assert change.foreign
    with pytest.raises(SysregError, match="move it away"):
        change.apply(context)


def test_a_link_is_created_repaired_and_removed(tmp_path: Path) -> None:
    context, link = context_of(tmp_path / "state"), Link(tmp_path / "bin/link", "/target")
    apply(link, context)
    link.path.unlink()
    link.path.symlink_to("/nowhere")
    assert not required(link, context).foreign
    apply(link, context)
    assert str(link.path.readlink()) == "/target"
    link.remove(context)
    assert not link.path.is_symlink()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_a_link_replaces_comes_back(tmp_path: Path, kind: str) -> None:
    context, link = context_of(tmp_path / "state"), Link(tmp_path / "link", "/target")
    link.path.symlink_to("/theirs") if kind == "link" else link.path.write_text("theirs")
    assert required(link, context).foreign
    apply(link, context)
    link.remove(context)
    if kind == "link":
        assert str(link.path.readlink()) == "/theirs"
    else:
        assert link.path.read_text() == "theirs"


def test_derived_content_is_written_when_it_changes_and_never_shown(tmp_path: Path) -> None:
    context, source = context_of(tmp_path / "state"), tmp_path / "source"
    file = File(tmp_path / "file", source.read_bytes, Attributes(0o600))
    source.write_text("secret 1")
    change = required(file, context)
    assert "secret" not in change.diff + change.line
    apply(file, context)
    assert file.path.read_text() == "secret 1"
    assert file.path.stat().st_mode & 0o777 == 0o600
    source.write_text("secret 2")
    assert apply(file, context) == f"change {file.path}"
    assert not (tmp_path / "state/backup").exists(), "no copy of a secret is made"
    assert file.remove(context) == f"removed {file.path}"
