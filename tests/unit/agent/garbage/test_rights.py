"""A collection that lacks rights says so before it changes anything."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sysreg_cli.agent.garbage import edits, planning
from sysreg_cli.agent.garbage.planning import SweepPlan
from sysreg_cli.agent.garbage.sweep import directories_to_change
from sysreg_cli.agent.storage.files import go_on
from sysreg_cli.agent.storage.snapshot import Snapshot
from sysreg_cli.errors import SysregError
from sysreg_cli.host.ownership import as_owner, require_rights
from tests.unit.agent.storage.builder import Storage

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="taking another user's rights needs root")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that other users can enter; pytest's own belong to root alone."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def _build(root: Path) -> None:
    """Write a storage in which a collection removes blobs, manifests and repositories."""
    storage = Storage(root)
    storage.image("app", "1", layers=(b"one",))
    storage.image("app", layers=(b"untagged",))
    storage.delete("team/app/sub", storage.image("team/app/sub", layers=(b"gone",)))
    storage.age = 0
    storage.upload("app", b"fresh")
    nobody = pwd.getpwnam("nobody")
    for path in (root, *root.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)


def _plan(root: Path) -> SweepPlan:
    return planning.make(Snapshot(root), now=time.time(), grace=3600, delete_untagged=True)


def _carry_out(root: Path, plan: SweepPlan) -> None:
    assert plan.pins
    edits.write_pin(root, plan.pins)
    edits.unlink_manifests(root, plan.manifests)
    edits.remove_blobs(root, plan.blobs)
    edits.remove_repositories(root, plan.repositories)
    edits.remove_pins(root)


def test_what_the_plan_needs_is_checked_for_each_directory_that_root_owns(place: Path) -> None:
    template, root = place / "template", place / "storage"
    _build(template)
    names = sorted(path.relative_to(template) for path in template.rglob("*") if path.is_dir())
    refused = 0
    for name in names:
        if not root.exists():
            _build(root)
        os.chown(root / name, 0, 0)
        try:
            with as_owner(root):
                plan = _plan(root)
            require_rights(root, directories_to_change(root, plan, go_on))
        except SysregError:
            refused += 1
            os.chown(root / name, root.stat().st_uid, root.stat().st_gid)
        else:
            _carry_out(root, plan)  # raises nothing
            assert plan.repositories == ["team/app/sub"]
            shutil.rmtree(root)
    assert 0 < refused < len(names)


def test_each_link_that_root_took_is_named_before_a_push_fails_at_it(place: Path) -> None:
    root = place / "storage"
    _build(root)
    links = sorted(root.rglob("link"))
    for link in links:
        owner = link.stat()
        os.chown(link, 0, 0)
        link.chmod(0o600)
        with as_owner(root), pytest.raises(PermissionError) as caught:
            _plan(root)
        assert caught.value.filename == str(link)
        os.chown(link, owner.st_uid, owner.st_gid)
    assert len(links) > 8
