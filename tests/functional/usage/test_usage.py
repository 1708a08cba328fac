"""`system registry-usage` against the real registry, agent and collector."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from devstack import images
from devstack.controller import Controller
from tests.functional.garbage.conftest import collected, registry, shared

__all__ = ["registry", "shared"]  # fixtures: an empty registry of its own


def usage(controller: Controller, *words: str, **run: Any) -> Any:
    done = controller.system("registry-usage", "-f", "json", *words, **run)
    assert (done.returncode, done.stderr) == (0, ""), done
    return json.loads(done.stdout)


def test_unique_and_freed_are_what_delete_and_collection_really_free(registry: Controller) -> None:
    client = registry.client()
    same = images.single(seed="shared")
    client.push("usage/app", "v1", same)
    client.push("usage/app", "v2", images.single(seed="own"))
    client.push("usage/other", "v1", same)

    rows = {row["image_tag"]: row for row in usage(registry, "--by", "tag", "usage/app")}
    assert rows["v1"]["unique"] == 0
    assert rows["v2"]["unique"] == rows["v2"]["size"] > 0
    by_image = {row["image_name"]: row for row in usage(registry, "--by", "image")}
    assert by_image["usage/app"]["shared_with"] == ["usage/other"]
    before = usage(registry)
    assert (before["images"], before["tags"], before["freed_by_collection"]) == (2, 3, 0)
    assert before["last_collection"] is None

    assert registry.system("registry-image-delete", "usage/app:v2").returncode == 0
    after_delete = usage(registry)
    report = collected(registry)
    # the placeholder that the delete used is freed, too
    assert after_delete["freed_by_collection"] == report["bytes"] >= rows["v2"]["unique"]
    assert after_delete["bytes_unreferenced"] == report["bytes"]
    after = usage(registry)
    assert before["bytes_referenced"] - after["bytes_referenced"] == rows["v2"]["unique"]
    assert after["last_collection_outcome"] == "done"


def test_every_byte_of_the_storage_is_accounted_for(registry: Controller) -> None:
    client = registry.client()
    client.push("usage/app", "v1", images.single(seed="first"))
    client.push("usage/app", "v1", images.single(seed="second"))
    upload = registry.paths.storage / "docker/registry/v2/repositories/usage/app/_uploads/1/data"
    upload.parent.mkdir(parents=True)
    upload.write_bytes(b"x" * 1234)
    found = usage(registry)
    blobs = (registry.paths.storage / "docker/registry/v2/blobs").glob("*/*/*/data")
    parts = ("bytes_referenced", "bytes_untagged", "bytes_unreferenced")
    assert sum(found[part] for part in parts) == sum(path.stat().st_size for path in blobs)
    assert found["bytes_untagged"] > 0
    assert found["bytes_in_uploads"] == 1234
    disk = os.statvfs(registry.paths.storage)
    assert found["size"] == disk.f_blocks * disk.f_frsize


def test_a_user_sees_only_their_own_images_and_no_figures_of_others(registry: Controller) -> None:
    client = registry.client()
    same = images.single(seed="of several users")
    for name in ("testuser/app", "testuser2/app", "public/app", "secret"):
        client.push(name, "v1", same)
    # root sends a token only if the command line names credentials
    user = ("--os-username", "testuser", "--os-password", registry.passwords["testuser"])
    found = {row["image_name"]: row for row in usage(registry, "--by", "image", *user, user="testuser")}
    assert found.keys() == {"testuser/app", "public/app"}
    assert found["testuser/app"]["shared_with"] == ["public/app"]
    figures = usage(registry, *user, user="testuser")
    assert (figures["images"], figures["tags"]) == (2, 2)
    known = {"images", "tags", "bytes_referenced", "bytes_in_uploads", "as_of"}
    assert {name for name, value in figures.items() if value is not None} == known
    done = registry.system("registry-usage", "--by", "tag", "secret", *user, user="testuser")
    assert (done.returncode, "there is no such image" in done.stderr) == (1, True)


def test_the_usage_of_a_storage_that_cannot_be_read_is_not_guessed(registry: Controller) -> None:
    with registry.registry_config(storage={"filesystem": None, "inmemory": {}}):
        done = registry.system("registry-usage")
    assert (done.returncode, done.stdout) == (1, "")
    assert "the registry's storage has the driver inmemory, which the agent cannot read" in done.stderr


def test_an_unknown_image_is_one_line_and_exit_1(registry: Controller) -> None:
    done = registry.system("registry-usage", "--by", "tag", "no/such")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "system: no/such: there is no such image; see system registry-image-list\n"


@pytest.mark.parametrize("words", [(), ("--by", "image"), ("--by", "user")])
def test_an_empty_registry_has_a_usage(registry: Controller, words: tuple[str, ...]) -> None:
    assert usage(registry, *words) is not None


def test_growth_and_the_day_on_which_the_disk_is_full_come_from_the_samples(registry: Controller) -> None:
    assert usage(registry)["growth_per_day"] is None
    free = usage(registry)["free"]
    now, growth = time.time(), max(free // 100, 1)
    samples = [[now - number * 21600, 10**12 - growth * number // 4] for number in range(8, -1, -1)]
    path = registry.paths.state / "usage-samples.json"
    before = path.read_text()
    try:
        path.write_text(json.dumps({"format": 1, "samples": samples}))
        found = usage(registry)
    finally:
        path.write_text(before)
    assert abs(found["growth_per_day"] - growth) <= 4
    days = (datetime.fromisoformat(found["full_on"]).date() - datetime.now(UTC).date()).days
    assert 95 <= days <= 105
