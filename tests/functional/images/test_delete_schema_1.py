"""Images in docker's old format, manifest schema 1, which a registry of 2.8 may hold."""

from __future__ import annotations

import json

import pytest

from devstack import images
from devstack.controller import Controller
from tests.functional.images import storage

_ENABLED = {"compatibility": {"schema1": {"enabled": True}}}


@pytest.fixture
def name(controller: Controller, request: pytest.FixtureRequest) -> str:
    """A repository with v1 and v2 on one old image, other on another old one, and new on one of today."""
    name = f"schema-1/{''.join(c if c.isalnum() else '-' for c in request.node.name.lower()).strip('-')}"
    registry, old = controller.client(), images.schema_1()
    with controller.registry_config(**_ENABLED):
        for tag, image in (("v1", old), ("v2", old), ("other", images.schema_1())):
            registry.push(name, tag, image)
    registry.push(name, "new", images.single())
    return name


def _digest(controller: Controller, name: str, tag: str) -> str:
    return controller.client().manifest(name, tag).headers["Docker-Content-Digest"]


@pytest.mark.parametrize("enabled", [True, False])
def test_tags_are_deleted_one_by_one_and_the_manifest_with_the_last(
    controller: Controller, name: str, enabled: bool
) -> None:
    digest, before = _digest(controller, name, "v1"), storage.manifests(controller, name)
    assert digest in before
    with controller.registry_config(**(_ENABLED if enabled else {})):
        first = controller.system("registry-image-delete", "-f", "json", f"{name}:v1")
        assert storage.manifests(controller, name) == before
        assert _digest(controller, name, "v2") == digest
        last = controller.system("registry-image-delete", "-f", "json", f"{name}:v2")

    results = [json.loads(done.stdout)[0] for done in (first, last)]
    assert [result["digest"] for result in results] == [digest, digest]
    assert [result["manifests"] for result in results] == [[], [digest]]
    assert [result["warnings"] for result in results] == [[], []]
    assert storage.tags(controller, name) == {"other", "new"}
    assert storage.manifests(controller, name) == before - {digest}


def test_a_digest_is_deleted_with_its_tags(controller: Controller, name: str) -> None:
    digest, before = _digest(controller, name, "v1"), storage.manifests(controller, name)
    response = controller.client().manifest(name, "v1")
    assert controller.client().delete(name, images.digest_of(response.content)).status_code == 404
    refused = controller.system("registry-image-delete", f"{name}@{digest}")
    assert "has several tags: v1, v2" in refused.stderr
    done = controller.system("registry-image-delete", "--yes", f"{name}@{digest}")
    assert (done.returncode, done.stderr) == (0, "")
    assert storage.tags(controller, name) == {"other", "new"}
    assert storage.manifests(controller, name) == before - {digest}


def test_an_image_of_today_beside_old_ones_is_deleted_with_its_manifest(
    controller: Controller, name: str
) -> None:
    before = storage.manifests(controller, name)
    done = controller.system("registry-image-delete", f"{name}:new")
    assert (done.returncode, done.stdout) == (0, f"Image {name}:new deleted\n")
    assert len(storage.manifests(controller, name)) == len(before) - 1


@pytest.mark.parametrize("enabled", [True, False])
def test_a_failed_delete_is_undone_where_the_registry_takes_the_old_format_and_finished_where_not(
    controller: Controller, name: str, enabled: bool
) -> None:
    digest = _digest(controller, name, "other")
    with controller.registry_config(**(_ENABLED if enabled else {})):
        with storage.undeletable(controller, name, digest):
            done = controller.system("registry-image-delete", f"{name}:other")
            assert done.returncode == 1
            assert ("half done: run the same command again" in done.stderr) is not enabled
            assert (_digest(controller, name, "other") == digest) is enabled
        assert controller.system("registry-image-delete", f"{name}:other").returncode == 0
    assert storage.tags(controller, name) == {"v1", "v2", "new"}
    assert digest not in storage.manifests(controller, name)
