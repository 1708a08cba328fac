"""`system registry-image-delete` on the real registry (2.8): that tag, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from devstack import images
from devstack.client import IndependentClient
from devstack.controller import Controller
from tests.functional.images import storage


def test_a_sibling_tag_on_the_same_image_survives(
    controller: Controller, registry: IndependentClient, name: str
) -> None:
    image = images.single()
    for tag in ("v1", "v2", "v3"):
        registry.push(name, tag, image)

    done = controller.system("registry-image-delete", f"{name}:v2")

    assert (done.returncode, done.stdout, done.stderr) == (0, f"Image {name}:v2 deleted\n", "")
    assert registry.tags(name) == ["v1", "v3"]
    assert registry.is_whole(name, "v1")
    assert registry.is_whole(name, "v3")
    assert storage.manifests(controller, name) == {image.digest}, "a placeholder was left"


@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
def test_a_sibling_tag_on_the_same_index_survives(
    controller: Controller, registry: IndependentClient, name: str, docker: bool
) -> None:
    name += "-docker" if docker else ""
    index = images.multi_arch(docker=docker)
    registry.push(name, "v1", index)
    registry.push(name, "v2", index)

    assert controller.system("registry-image-delete", f"{name}:v1").returncode == 0

    assert registry.tags(name) == ["v2"]
    assert registry.is_whole(name, "v2")
    assert storage.manifests(controller, name) == {index.digest, *(c.digest for c in index.children)}


@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
def test_the_last_tag_takes_the_image_with_all_its_platforms_along(
    controller: Controller, registry: IndependentClient, name: str, docker: bool
) -> None:
    name += "-docker" if docker else ""
    registry.push(name, "v1", images.multi_arch(docker=docker))

    assert controller.system("registry-image-delete", f"{name}:v1").returncode == 0

    assert registry.tags(name) == []
    assert storage.manifests(controller, name) == set(), "half an image, or a placeholder, was left"


def test_a_platform_that_another_image_shares_stays(
    controller: Controller, registry: IndependentClient, name: str
) -> None:
    index = images.multi_arch()
    shared, other = index.children[0], index.children[1]
    second = images.index(shared, images.single(seed="second"))
    registry.push(name, "first", index)
    registry.push(name, "second", second)

    assert controller.system("registry-image-delete", f"{name}:first").returncode == 0

    assert registry.is_whole(name, "second")
    assert other.digest not in storage.manifests(controller, name)


def test_a_tag_on_one_platform_of_an_index_goes_without_harm_to_the_index(
    controller: Controller, registry: IndependentClient, name: str
) -> None:
    index = images.multi_arch()
    registry.push(name, "all", index)
    registry.put_manifest(name, "one-platform", index.children[0])

    assert controller.system("registry-image-delete", f"{name}:one-platform").returncode == 0

    assert registry.tags(name) == ["all"]
    assert registry.is_whole(name, "all")


def test_an_index_in_an_index_goes_as_a_whole_unless_a_tag_needs_it(
    controller: Controller, registry: IndependentClient, name: str
) -> None:
    inner = images.multi_arch(seed="inner")
    outer = images.index(inner, images.single(seed="outer"))
    registry.push(name, "outer", outer)
    registry.push(name, "inner", inner)

    assert controller.system("registry-image-delete", f"{name}:outer").returncode == 0
    assert registry.is_whole(name, "inner")
    assert storage.manifests(controller, name) == {inner.digest, *(c.digest for c in inner.children)}

    registry.push(name, "outer", outer)
    assert controller.system("registry-image-delete", f"{name}:inner").returncode == 0
    assert registry.is_whole(name, "outer")


def test_the_registrys_host_and_port_may_stand_in_front(
    controller: Controller, registry: IndependentClient, name: str
) -> None:
    registry.push(name, "v1", images.single())
    done = controller.system("registry-image-delete", f"{controller.address}/{name}:v1")
    assert (done.returncode, done.stdout) == (0, f"Image {name}:v1 deleted\n")


def test_several_images_are_each_tried_and_one_failure_is_the_exit_status(
    controller: Controller, registry: IndependentClient, name: str
) -> None:
    registry.push(name, "v1", images.single(seed=1))
    registry.push(name, "v2", images.single(seed=2))

    done = controller.system("registry-image-delete", f"{name}:v1", f"{name}:never", f"{name}:v2")

    assert done.returncode == 1
    assert done.stdout == f"Image {name}:v1 deleted\nImage {name}:v2 deleted\n"
    assert done.stderr.startswith(f"system: {name}:never: there is no such image")
    assert done.stderr.endswith(f"; see system registry-image-tags {name}\n")
    assert done.stderr.count("\n") == 1
    assert registry.tags(name) == []


def test_one_malformed_name_among_several_deletes_nothing(
    controller: Controller, registry: IndependentClient, name: str
) -> None:
    registry.push(name, "v1", images.single())
    done = controller.system("registry-image-delete", f"{name}:v1", f"{name}:v1:v2")
    assert done.returncode == 2
    assert done.stdout == ""
    assert registry.is_whole(name, "v1")


def test_a_dry_run_says_what_would_go_and_changes_nothing(
    controller: Controller, registry: IndependentClient, name: str
) -> None:
    index = images.multi_arch()
    registry.push(name, "v1", index)
    before = storage.manifests(controller, name)

    done = controller.system("registry-image-delete", "--dry-run", "-f", "json", f"{name}:v1")

    (result,) = json.loads(done.stdout)
    assert done.returncode == 0
    assert result["deleted"] is False
    assert result["digest"] == index.digest
    assert set(result["manifests"]) == before
    assert storage.manifests(controller, name) == before
    assert registry.is_whole(name, "v1")


def test_the_dry_run_of_a_tag_with_a_sibling_frees_no_manifest(
    controller: Controller, registry: IndependentClient, name: str
) -> None:
    registry.push(name, "v1", image := images.single())
    registry.push(name, "v2", image)
    done = controller.system("registry-image-delete", "--dry-run", "-f", "json", f"{name}:v1")
    assert json.loads(done.stdout)[0]["manifests"] == []


def test_a_digest_takes_its_only_tag_along(
    controller: Controller, registry: IndependentClient, name: str
) -> None:
    registry.push(name, "v1", image := images.single())
    done = controller.system("registry-image-delete", f"{name}@{image.digest}")
    assert done.returncode == 0
    assert done.stdout == f"Image {name}@{image.digest} deleted (with its tags v1)\n"
    assert registry.tags(name) == []
    assert storage.manifests(controller, name) == set()


def test_a_digest_with_several_tags_is_refused_with_their_names_unless_told_so(
    controller: Controller, registry: IndependentClient, name: str
) -> None:
    image = images.multi_arch()
    registry.push(name, "v1", image)
    registry.push(name, "v2", image)
    registry.push(name, "other", images.single())

    refused = controller.system("registry-image-delete", f"{name}@{image.digest}")
    assert refused.returncode == 1
    assert "v1, v2" in refused.stderr
    assert "--yes" in refused.stderr
    assert registry.tags(name) == ["other", "v1", "v2"]

    assert controller.system("registry-image-delete", "--yes", f"{name}@{image.digest}").returncode == 0
    assert registry.tags(name) == ["other"]
    assert registry.is_whole(name, "other")
    assert len(storage.manifests(controller, name)) == 1


def test_one_platform_of_a_tagged_index_is_refused_by_digest_even_with_yes(
    controller: Controller, registry: IndependentClient, name: str
) -> None:
    index = images.multi_arch()
    registry.push(name, "v1", index)
    done = controller.system("registry-image-delete", "--yes", f"{name}@{index.children[0].digest}")
    assert done.returncode == 1
    assert f"a part of the image {name}:v1" in done.stderr
    assert registry.is_whole(name, "v1")


def test_an_untagged_digest_goes(controller: Controller, registry: IndependentClient, name: str) -> None:
    image = images.single()
    registry.push(name, image.digest, image)
    assert controller.system("registry-image-delete", f"{name}@{image.digest}").returncode == 0
    assert storage.manifests(controller, name) == set()


def test_a_tag_whose_manifest_is_gone_can_still_be_deleted(
    controller: Controller, registry: IndependentClient, name: str
) -> None:
    image = images.single()
    registry.push(name, "broken", image)
    root = controller.paths.storage / "docker/registry/v2/repositories" / name
    (root / "_manifests/revisions/sha256" / image.digest.removeprefix("sha256:") / "link").unlink()
    assert registry.tags(name) == ["broken"]

    assert controller.system("registry-image-delete", f"{name}:broken").returncode == 0

    assert registry.tags(name) == []
    assert storage.manifests(controller, name) == set()


def test_a_missing_tag_or_image_is_exit_1_and_says_so(controller: Controller, name: str) -> None:
    done = controller.system("registry-image-delete", f"{name}:v1")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"system: {name}:v1: there is no such image in ")
    assert done.stderr.endswith("; see system registry-image-list\n")


@pytest.mark.parametrize(
    "changes",
    [{"delete": {"enabled": False}}, {"maintenance": {"readonly": {"enabled": True}}}],
    ids=["delete-disabled", "read-only"],
)
def test_a_registry_that_cannot_delete_is_exit_1_and_nothing_has_changed(
    controller: Controller, registry: IndependentClient, name: str, changes: dict[str, object]
) -> None:
    registry.push(name, "v1", image := images.single(seed=1))
    registry.push(name, "v2", images.single(seed=2))
    with controller.registry_config(storage=changes):
        for wanted in (f"{name}:v1", f"{name}@{image.digest}"):
            done = controller.system("registry-image-delete", wanted)
            assert done.returncode == 1
            assert done.stdout == ""
            assert "read-only, or has deletes switched off" in done.stderr
        assert registry.is_whole(name, "v1")
        assert registry.tags(name) == ["v1", "v2"]


def test_a_user_deletes_below_their_own_name_and_nowhere_else(
    controller: Controller, registry: IndependentClient
) -> None:
    registry.push("testuser/mine", "v1", images.single(seed=1))
    registry.push("testuser2/theirs", "v1", images.single(seed=2))

    assert controller.system("registry-image-delete", "testuser/mine:v1", user="testuser").returncode == 0
    refused = controller.system("registry-image-delete", "testuser2/theirs:v1", user="testuser")

    assert refused.returncode == 1
    assert "this user may not do it" in refused.stderr
    assert registry.tags("testuser/mine") == []
    assert registry.is_whole("testuser2/theirs", "v1")


def test_the_same_content_under_another_repository_stays(
    controller: Controller, registry: IndependentClient, name: str
) -> None:
    image = images.single()
    registry.push(name, "v1", image)
    registry.push(f"{name}/below", "v1", replace(image))
    assert controller.system("registry-image-delete", f"{name}:v1").returncode == 0
    assert registry.is_whole(f"{name}/below", "v1")


# Damaged manifests: the registry answers 500 for them


def test_a_build_cache_and_a_tag_beside_it_are_deleted(
    controller: Controller, registry: IndependentClient, name: str
) -> None:
    """A cache that buildx exports is an index whose entries are layers."""
    image = images.single()
    registry.push(name, "v1", image)
    entries = [
        {"mediaType": kind, "digest": images.digest_of(blob), "size": len(blob)}
        for kind, blob in zip(
            ("application/vnd.buildkit.cacheconfig.v0", "application/vnd.oci.image.layer.v1.tar+gzip"),
            image.blobs,
            strict=True,
        )
    ]
    index = {"schemaVersion": 2, "mediaType": images.OCI_INDEX, "manifests": entries}
    cache = images.Image(json.dumps(index).encode(), images.OCI_INDEX)
    registry.put_manifest(name, "cache", cache)

    assert controller.system("registry-image-delete", f"{name}:v1").returncode == 0
    assert storage.manifests(controller, name) == {cache.digest}
    assert controller.system("registry-image-delete", f"{name}:cache").returncode == 0
    assert storage.manifests(controller, name) == set()
