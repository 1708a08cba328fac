"""Tab against the real registry: names that no other command has left in the cache."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from devstack.controller import Controller
from devstack.images import single
from devstack.waiting import wait_until
from tests.functional.completion.shell import InteractiveBash


@pytest.fixture
def image(controller: Controller) -> str:
    """A repository of testuser with the tags v1.0 and v1.1."""
    name = f"testuser/{uuid.uuid4().hex}"
    for tag in ("v1.0", "v1.1"):
        controller.client().push(name, tag, single(seed=name))
    return name


def completes(bash: InteractiveBash, *typed: str, to: str) -> None:
    """Press Tab until it completes: a slow machine may need more than the second that it is given."""
    bash.run("_sysreg_pause=0")
    wait_until(lambda: bash.completes(*typed) == to, 60, what=f"{typed} completes to {to}")


@pytest.mark.parametrize("user", ["admin", "testuser"])
def test_names_and_tags_come_from_the_registry(
    controller: Controller, image: str, user: str, tmp_path: Path
) -> None:
    # A list that another test left in the cache is believed for two minutes, without this image.
    environ = {**controller.environ(user), "XDG_CACHE_HOME": str(tmp_path)}
    with InteractiveBash(environ, cwd=controller.paths.root) as bash:
        completes(
            bash,
            f"system registry-image-delete {image[:-8]}",
            ":v1.",
            to=f"system registry-image-delete {image}:v1.|",
        )
        completes(
            bash,
            f"system registry-image-delete {controller.address}/{image}:v1.1",
            to=f"system registry-image-delete {controller.address}/{image}:v1.1 |",
        )


def test_a_list_and_a_delete_bring_the_cache_up_to_date(controller: Controller, image: str) -> None:
    environ = controller.environ()
    assert controller.system("registry-image-list").returncode == 0
    assert controller.system("registry-image-tags", image).returncode == 0
    # Nothing is asked any more: without a password the completion doesn't ask.
    del environ["OS_PASSWORD"]
    with InteractiveBash(environ, cwd=controller.paths.root) as bash:
        line = bash.completes(f"system registry-image-delete {image[:-8]}", ":v1.", "1")
        assert line == f"system registry-image-delete {image}:v1.1 |"
        assert controller.system("registry-image-delete", f"{image}:v1.1").returncode == 0
        # The deleted tag is no longer offered.
        line = bash.completes(f"system registry-image-delete {image}:v1.1")
        assert line == f"system registry-image-delete {image}:v1.1|"


def test_deleted_tags_are_offered_to_a_restore(controller: Controller, image: str, tmp_path: Path) -> None:
    delete = controller.system("registry-image-delete", f"{image}:v1.0", f"{image}:v1.1")
    assert delete.returncode == 0, delete
    environ = {**controller.environ(), "XDG_CACHE_HOME": str(tmp_path)}
    with InteractiveBash(environ, cwd=controller.paths.root) as bash:
        line = f"system registry-image-restore {image}:v1"
        completes(bash, line[:-6], "1", to=f"{line}.1 |")
        completes(bash, f"{line}.1 {image[:-8]}", to=f"{line}.1 {image}:v1.0 |")


def test_nothing_is_written_into_the_home_of_another_user(controller: Controller, tmp_path: Path) -> None:
    # As under sudo, which may leave HOME as it was.
    home = tmp_path / "theirs"
    (home / ".cache").mkdir(parents=True)
    os.chown(home, 65534, 65534)
    done = controller.system("registry-image-list", env={"HOME": str(home), "XDG_CACHE_HOME": ""})
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in home.rglob("*")] == [".cache"]
