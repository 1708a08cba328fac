"""Root works in the registry's storage with the rights of the registry's user."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sysreg_cli.agent.garbage import edits
from sysreg_cli.agent.storage import layout
from sysreg_cli.errors import SysregError
from sysreg_cli.host.ownership import as_owner, leave_groups, no_rights, require_rights

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="taking another user's rights needs root")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that other users can enter; pytest's own belong to root alone."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture
def root(place: Path) -> Path:
    """A storage that belongs to the user ``nobody``."""
    storage = place / "storage"
    storage.mkdir()
    nobody = pwd.getpwnam("nobody")
    os.chown(storage, nobody.pw_uid, nobody.pw_gid)
    return storage


@needs_root
def test_a_planted_link_leads_nowhere(root: Path, place: Path) -> None:
    target = place / "roots"
    target.mkdir()
    with as_owner(root):
        pins = layout.repository(root, layout.PIN_REPOSITORY)
        (pins / "_manifests").mkdir(parents=True)
        (pins / "_manifests/revisions").symlink_to(target)
    with pytest.raises(PermissionError):
        edits.write_pin(root, {"sha256:" + "0" * 64: 5})
    assert list(target.iterdir()) == []


@needs_root
def test_what_is_made_is_the_owners_and_rights_come_back(root: Path, place: Path) -> None:
    edits.write_pin(root, {"sha256:" + "0" * 64: 5})
    made = list(root.rglob("*"))
    assert {path.stat().st_uid for path in made} == {root.stat().st_uid}
    assert {path.stat().st_mode & 0o777 for path in made} == {0o755, 0o644}
    assert edits.remove_pins(root)
    (place / "mine").write_text("again")
    assert (place / "mine").stat().st_uid == 0


@needs_root
def test_rights_that_are_missing_on_the_way_are_told_of_what_is_there(root: Path) -> None:
    closed = root / "closed"
    closed.mkdir(mode=0o700)
    error = no_rights(root, str(closed / "a/link"))
    assert f"nobody may not read or change {closed}: it belongs to root, with mode 0700" in str(error)


@needs_root
def test_the_groups_of_a_shell_of_roots_give_another_user_no_rights(root: Path) -> None:
    closed = root / "closed"
    closed.mkdir()
    closed.chmod(0o770)
    groups = os.getgroups()
    os.setgroups([0])
    try:
        leave_groups()
        with pytest.raises(SysregError, match="nobody may not read or change"):
            require_rights(root, [str(closed)])
    finally:
        os.setgroups(groups)
