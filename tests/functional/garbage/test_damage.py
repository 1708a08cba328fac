"""Damage costs nothing but itself: a collection goes on, names it, and the remedy that it names works."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from devstack import images
from devstack.controller import Controller
from tests.functional.garbage.conftest import collect, collected, status, writes_ended


def replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


#: what happens to a file
DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:30]),
    "newline": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    "other": lambda path: path.write_bytes(path.read_bytes()[:-3] + b"000"),
    "missing": os.unlink,
    "directory": replace_by_directory,
    "link": replace_by_link,
}

#: how each kind of file is damaged; a layer of the right size is seen to be damaged only by a client
TRIED = {
    "tag": ("empty", "newline", "missing", "directory"),
    "revision": ("cut", "newline", "other", "link"),
    "layer": ("empty", "other", "missing", "directory"),
    "manifest": ("empty", "other", "missing", "link"),
    "platform": ("cut", "missing"),
    "blob": ("empty", "missing", "directory"),
}


def damaged_file(controller: Controller, repository: str, kind: str, image: images.Image) -> Path:
    """The file of one kind that the image at the tag ``1`` needs."""
    storage = controller.paths.storage / "docker/registry/v2"
    here = storage / "repositories" / repository
    platform = image.children[0] if image.children else image
    layer = images.digest_of(platform.blobs[1])

    def digits(digest: str) -> str:
        return digest.replace(":", "/")

    def blob(digest: str) -> Path:
        return storage / "blobs/sha256" / digest[7:9] / digest[7:] / "data"

    return {
        "tag": here / "_manifests/tags/1/current/link",
        "revision": here / "_manifests/revisions" / digits(image.digest) / "link",
        "layer": here / "_layers" / digits(layer) / "link",
        "manifest": blob(image.digest),
        "platform": blob(platform.digest),
        "blob": blob(layer),
    }[kind]


def damage_everything(controller: Controller) -> dict[str, images.Image]:
    """Push an image for each kind of damage, and damage it. The tag ``2`` beside it stays whole."""
    client = controller.client()
    made = {}
    for kind, names in TRIED.items():
        for name in names:
            repository = f"{kind}/{name}"
            image = images.multi_arch() if kind == "platform" else images.single()
            client.push(repository, "1", image)
            client.push(repository, "2", images.single())
            DAMAGES[name](damaged_file(controller, repository, kind, image))
            made[repository] = image
    return made


def remedies(controller: Controller, warning: str, *, push: bool) -> bool:
    """Type what a warning says. Returns whether the image then has to be pushed again."""
    if push and "push it again" in warning:
        return True
    for typed in re.findall(r": ((?:system|rm) [^;]*)", warning):
        command = shlex.split(typed)
        if command[0] == "system":
            writes_ended(controller)
            done = controller.system(*command[1:])
            assert done.returncode == 0, (warning, done.stdout, done.stderr)
        else:
            subprocess.run(command, check=True)
    return "then push the image" in warning


def test_everything_that_is_damaged_is_named_with_a_remedy_that_works(registry: Controller) -> None:
    client = registry.client()
    made = damage_everything(registry)
    gone = images.single()
    client.push("gone", "1", gone)
    client.delete("gone", gone.digest)
    shared = registry.paths.storage / "docker/registry/v2/blobs/sha256" / gone.digest[7:9] / gone.digest[7:]
    writes_ended(registry)

    first = collected(registry)

    assert not shared.exists()
    assert "gone" not in client.catalog()
    assert all(client.is_whole(repository, "2") for repository in made)
    named = {warning.partition(":")[0] for warning in first["warnings"]}
    assert named == made.keys()
    assert all(f"{warning.partition(':')[0]}:1" in warning for warning in first["warnings"])

    pushed = {
        warning.partition(":")[0]
        for number, warning in enumerate(first["warnings"])
        if remedies(registry, warning, push=number % 2 == 0)
    }
    # what was untagged by a delete, and is damaged, is named with what removes it
    for warning in collected(registry)["warnings"]:
        remedies(registry, warning, push=False)
    for repository in pushed:
        client.push(repository, "1", made[repository])
    writes_ended(registry)
    last = collect(registry)
    assert "Broken" not in last.stdout, last.stdout
    for repository in made:
        assert client.is_whole(repository, "2"), repository
        assert repository not in pushed or client.is_whole(repository, "1"), repository


@pytest.mark.parametrize("place", ["blob", "manifest", "link", "repository"])
def test_wrong_owners_are_told_before_writes_are_held_also_by_a_dry_run(
    registry: Controller, place: str
) -> None:
    """As a restore by root leaves them."""
    client = registry.client()
    gone, kept = images.single(), images.single()
    client.push("gone", "1", gone)
    client.push("kept", "1", kept)
    client.delete("gone", gone.digest)
    storage = registry.paths.storage / "docker/registry/v2"
    path, mode = {
        "blob": (storage / "blobs/sha256" / gone.digest[7:9] / gone.digest[7:], 0o755),
        "manifest": (storage / "blobs/sha256" / kept.digest[7:9] / kept.digest[7:] / "data", 0o600),
        "link": (storage / "repositories/kept/_manifests/tags/1/current/link", 0o600),
        "repository": (storage / "repositories/gone/_layers", 0o755),
    }[place]
    shutil.chown(path, "root", "root")
    path.chmod(mode)
    before = status(registry)["results"]
    for options in (("--dry-run",), ()):
        done = collect(registry, *options)
        assert done.returncode == 1, done
        assert f"may not read or change {path}: it belongs to root, with mode" in done.stderr
    assert [result["writes_held"] for result in status(registry)["results"] if result not in before] == [0, 0]
    command = done.stderr.partition("give the storage back to that user: ")[2]
    subprocess.run(command, shell=True, check=True)
    assert collected(registry)["repositories"] == 1
