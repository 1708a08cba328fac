"""`system registry-image-delete` beside manifests and links that the registry cannot read."""

from __future__ import annotations

import os

import pytest

from devstack import images
from devstack.client import IndependentClient
from devstack.controller import Controller
from tests.functional.conftest import NewController
from tests.functional.garbage.conftest import collect
from tests.functional.images import storage


@pytest.mark.parametrize("content", [b"", b'{"schemaVersion": 2, "config'], ids=["empty", "cut"])
def test_a_tag_with_a_damaged_manifest_is_deleted_alone(
    controller: Controller, registry: IndependentClient, name: str, content: bytes
) -> None:
    name += "-cut" if content else "-empty"
    damaged, healthy = images.single(), images.single()
    for tag, image in (("damaged", damaged), ("also-damaged", damaged), ("healthy", healthy)):
        registry.push(name, tag, image)

    with storage.damaged(controller, damaged.digest, content):
        assert registry.manifest(name, "damaged").status_code == 500
        done = controller.system("registry-image-delete", f"{name}:damaged")

    assert (done.returncode, done.stderr) == (0, "")
    assert f"delete {name}@DIGEST" in done.stdout
    assert storage.tags(controller, name) == {"also-damaged", "healthy"}
    assert storage.manifests(controller, name) == {damaged.digest, healthy.digest}


def test_a_damaged_digest_is_deleted_with_its_tags(
    controller: Controller, registry: IndependentClient, name: str
) -> None:
    damaged, healthy = images.single(), images.single()
    for tag, image in (("damaged", damaged), ("also-damaged", damaged), ("healthy", healthy)):
        registry.push(name, tag, image)

    with storage.damaged(controller, damaged.digest):
        refused = controller.system("registry-image-delete", f"{name}@{damaged.digest}")
        done = controller.system("registry-image-delete", "--yes", f"{name}@{damaged.digest}")

    assert "has several tags: also-damaged, damaged" in refused.stderr
    assert (refused.returncode, done.returncode) == (1, 0)
    assert storage.tags(controller, name) == {"healthy"}
    assert storage.manifests(controller, name) == {healthy.digest}


def test_a_damaged_tag_stops_no_delete_of_another_and_its_content_stays(
    controller: Controller, registry: IndependentClient, name: str
) -> None:
    index = images.multi_arch()
    damaged = images.index(index.children[0])
    for tag, image in (("damaged", damaged), ("healthy", index), ("sibling", index)):
        registry.push(name, tag, image)
    before = storage.manifests(controller, name)

    with storage.damaged(controller, damaged.digest):
        for tag in ("healthy", "sibling"):
            done = controller.system("registry-image-delete", f"{name}:{tag}")
            assert (done.returncode, done.stderr) == (0, "")
            assert f"{name}:damaged cannot be read, and may need the image, which stays" in done.stdout

    assert storage.tags(controller, name) == {"damaged"}
    assert storage.manifests(controller, name) == before
    assert registry.is_whole(name, "damaged")


@pytest.mark.parametrize("link", ["", "sha256:abc", "{digest}\n"], ids=["empty", "cut", "newline"])
def test_a_damaged_link_of_a_tag_stops_no_delete_of_another(
    controller: Controller, registry: IndependentClient, name: str, link: str
) -> None:
    name += f"-{len(link)}"
    for tag in ("damaged", "v1", "v2"):
        registry.push(name, tag, images.single())
    damaged = controller.paths.storage / "docker/registry/v2/repositories" / name / "_manifests/tags/damaged"
    (damaged / "current/link").write_text(link.format(digest=registry.digest(name, "damaged")))

    done = controller.system("registry-image-delete", f"{name}:v1")

    assert (done.returncode, done.stderr) == (0, "")
    assert f"{name}:damaged cannot be read" in done.stdout
    assert storage.tags(controller, name) == {"damaged", "v2"}
    assert registry.is_whole(name, "v2")
    # without the agent, the message names what to delete first
    refused = controller.system("registry-image-delete", f"{name}:v2", env={"SYSREG_AGENT": "/nowhere"})
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"delete {name}:damaged first" in refused.stderr
    assert registry.is_whole(name, "v2")
    for tag in ("damaged", "v2"):
        done = controller.system("registry-image-delete", f"{name}:{tag}", env={"SYSREG_AGENT": "/nowhere"})
        assert (done.returncode, done.stderr) == (0, "")
    assert storage.tags(controller, name) == set()


def test_a_damaged_manifest_that_a_collection_names_can_be_deleted(
    new_controller: NewController,
) -> None:
    with new_controller() as controller:
        registry = controller.client()
        registry.push("app", "damaged", damaged := images.single())
        registry.push("app", "healthy", images.single())
        with storage.damaged(controller, damaged.digest):
            deleted = controller.system("registry-image-delete", "app:damaged")
            named = collect(controller)
            again = controller.system("registry-image-delete", f"app@{damaged.digest}")
            done = collect(controller)
        assert (deleted.returncode, named.returncode) == (0, 0), named.stderr
        assert damaged.digest in named.stdout
        assert (again.returncode, done.returncode) == (0, 0), done.stderr
        assert registry.is_whole("app", "healthy")


def test_a_manifest_that_belongs_to_another_user_is_told_and_the_same_command_finishes(
    controller: Controller, registry: IndependentClient, name: str
) -> None:
    image = images.multi_arch()
    registry.push(name, "v1", image)
    repository = controller.paths.storage / "docker/registry/v2/repositories" / name
    link = repository / "_manifests/revisions" / image.children[0].digest.replace(":", "/")
    owner = link.stat()
    os.chown(link, 0, 0)
    refused = controller.system("registry-image-delete", f"{name}:v1")
    assert refused.returncode == 1
    assert "files of its storage may belong to another user; the " in refused.stderr
    os.chown(link, owner.st_uid, owner.st_gid)
    done = controller.system("registry-image-delete", f"{name}:v1")
    assert (done.returncode, done.stderr) == (0, "")
    assert storage.tags(controller, name) == set()
    assert storage.manifests(controller, name) == set()
