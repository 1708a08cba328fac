"""`system registry-image-show`, and `--long` of the lists, against the real registry and agent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from devstack import images
from devstack.controller import Controller
from devstack.images import Image
from tests.functional.garbage.conftest import collected, registry, shared

__all__ = ["registry", "shared"]  # fixtures: an empty registry of its own

_NO_AGENT = {"SYSREG_AGENT": "/nowhere"}


def show(controller: Controller, image: str, **run: Any) -> Any:
    done = controller.system("registry-image-show", "-f", "json", image, **run)
    assert (done.returncode, done.stderr) == (0, ""), done
    return json.loads(done.stdout)


def referrer(subject: Image) -> Image:
    signature = images.single(seed="signature")
    document = {**json.loads(signature.manifest), "subject": subject.descriptor()}
    return Image(json.dumps(document).encode(), signature.media_type, signature.blobs)


def test_an_image_is_shown_with_what_goes_if_it_is_deleted(registry: Controller) -> None:
    client = registry.client()
    image = images.single(seed="image", layers=2)
    client.push("app", "v1", image)
    client.push("app", "latest", image)
    client.push("copy", "v1", image)
    client.push("other", "v1", images.single(seed="other"))
    cosign = f"{image.digest.replace(':', '-')}.sig"
    client.push("app", cosign, images.single(seed="cosign"))
    signature = referrer(image)
    client.push("app", signature.digest, signature)

    found = show(registry, "app:v1")
    assert found["digest"] == image.digest
    assert found["media_type"] == image.media_type
    assert [it["name"] for it in found["platforms"]] == ["linux/amd64"]
    assert len(found["layers"]) == 2
    assert found["size"] == image.size
    assert found["unique"] == 0
    assert found["also_tagged"] == ["app:latest", "copy:v1"]
    assert found["shares_layers_with"] == ["copy"]
    assert found["referrers"] == [f"app:{cosign}", f"app@{signature.digest}"]
    assert found["part_of"] == []
    by_digest = show(registry, f"app@{image.digest}")
    assert by_digest["also_tagged"] == ["app:latest", "app:v1", "copy:v1"]

    only = show(registry, "other:v1")
    assert only["unique"] == only["size"] > 0
    assert registry.system("registry-image-delete", "other:v1").returncode == 0
    assert collected(registry)["bytes"] >= only["unique"]


def test_an_index_lacks_a_platform_and_its_parts_name_it(registry: Controller) -> None:
    client = registry.client()
    image = images.multi_arch()
    client.push("app", "v1", image)
    amd64, arm64 = image.children
    part = show(registry, f"app@{amd64.digest}")
    assert part["part_of"] == ["app:v1"]
    assert part["unique"] == 0
    client.delete("app", arm64.digest)
    found = show(registry, "app:v1")
    assert [(it["name"], it["stored"]) for it in found["platforms"]] == [
        ("linux/amd64", True),
        ("linux/arm64", False),
    ]
    table = registry.system("registry-image-show", "app:v1")
    assert "linux/amd64, linux/arm64 (missing)" in table.stdout


def test_an_untagged_manifest_has_its_unique_part(registry: Controller) -> None:
    client = registry.client()
    old, new = images.single(seed="old"), images.single(seed="new")
    client.push("app", "v1", old)
    client.push("app", "v1", new)
    found = show(registry, f"app@{old.digest}")
    assert (found["unique"], found["also_tagged"]) == (old.size, [])


def test_without_the_agent_the_registry_tells_what_it_can_and_nothing_is_guessed(
    registry: Controller,
) -> None:
    image = images.multi_arch()
    registry.client().push("app", "v1", image)
    here, there = show(registry, "app:v1"), show(registry, "app:v1", env=_NO_AGENT)
    for name in ("digest", "media_type", "platforms", "layers", "size"):
        assert there[name] == here[name], name
    for name in ("unique", "pushed", "also_tagged", "shares_layers_with", "part_of", "referrers"):
        assert there[name] is None, name
    assert "what its delete frees, is not known" in there["warnings"][0]


@pytest.mark.parametrize("env", [{}, _NO_AGENT], ids=["agent", "registry"])
@pytest.mark.parametrize("image", ["no/such:v1", "app:v2", "app@sha256:" + "0" * 64])
def test_an_unknown_image_is_one_line_and_exit_1(
    registry: Controller, image: str, env: dict[str, str]
) -> None:
    registry.client().push("app", "v1", images.single())
    done = registry.system("registry-image-show", image, env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"system: {image}: there is no such image")
    remedy = "registry-image-list" if image.startswith("no/") else "registry-image-tags app"
    assert done.stderr.endswith(f"; see system {remedy}\n")


def test_a_user_sees_no_image_of_others_and_no_names_of_them(registry: Controller) -> None:
    same = images.single(seed="of several users")
    for name in ("testuser/app", "testuser2/app", "public/app"):
        registry.client().push(name, "v1", same)
    user = ("--os-username", "testuser", "--os-password", registry.passwords["testuser"])
    done = registry.system("registry-image-show", "-f", "json", "testuser/app:v1", *user, user="testuser")
    found = json.loads(done.stdout)
    assert found["also_tagged"] == ["public/app:v1"]
    assert found["shares_layers_with"] == ["public/app"]
    refused = registry.system("registry-image-show", "testuser2/app:v1", *user, user="testuser")
    assert (refused.returncode, "there is no such image" in refused.stderr) == (1, True)


def test_a_damaged_tag_is_shown_with_its_remedy(registry: Controller) -> None:
    registry.client().push("app", "v1", images.single())
    link = registry.paths.storage / "docker/registry/v2/repositories/app/_manifests/tags/v1/current/link"
    link.write_text("")
    found = show(registry, "app:v1")
    assert found["digest"] == ""
    assert "app:v1" in found["warnings"][0]


def test_long_lists_have_the_figures_and_the_others_stay(registry: Controller) -> None:
    client = registry.client()
    image, other = images.single(seed="a"), images.single(seed="b")
    client.push("app", "v1", image)
    client.push("app", "v2", other)
    client.push("untagged", "v1", image)
    client.delete("untagged", image.digest)

    def rows(*words: str) -> Any:
        done = registry.system(*words, "-f", "json")
        assert (done.returncode, done.stderr) == (0, ""), done
        return json.loads(done.stdout)

    found = {row["image_name"]: row for row in rows("registry-image-list", "--long")}
    assert found.keys() == {"app", "untagged"}
    assert (found["app"]["tags"], found["app"]["size"]) == (2, image.size + other.size)
    assert found["untagged"]["tags"] == 0
    assert [row["image_name"] for row in rows("registry-image-list", "--long", "--filter-out-untagged")] == [
        "app"
    ]
    tags = {row["image_tag"]: row for row in rows("registry-image-tags", "app", "--long")}
    assert (tags["v1"]["digest"], tags["v1"]["size"], tags["v1"]["unique"]) == (
        image.digest,
        image.size,
        image.size,
    )
    by_size = rows("registry-image-list", "--long", "--sort-column", "Tags:desc")
    assert [row["image_name"] for row in by_size] == ["app", "untagged"]
    assert rows("registry-image-tags", "no/such", "--long") == []
    assert rows("registry-image-tags", "app") == [{"image_tag": "v1"}, {"image_tag": "v2"}]


def test_long_lists_of_another_registry_are_refused(registry: Controller) -> None:
    done = registry.system("registry-image-list", "--long", env={"SYSREG_REGISTRY": "other:9001"})
    assert (done.returncode, done.stdout) == (1, "")
    assert "other:9001 is not the registry of this controller" in done.stderr
