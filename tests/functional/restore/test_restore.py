"""`system registry-image-restore` against the real registry and agent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from devstack import images
from devstack.controller import Controller
from tests.examples import check, script_of, steps_of
from tests.functional.garbage.conftest import collect, collected, registry, shared
from tests.functional.usage.test_show import referrer

__all__ = ["registry", "shared"]  # fixtures: an empty registry of its own


def delete(controller: Controller, *words: str) -> None:
    done = controller.system("registry-image-delete", *words)
    assert (done.returncode, done.stderr) == (0, ""), done


def deleted(controller: Controller, **run: Any) -> dict[str, dict[str, Any]]:
    """Return the deleted tags, NAME:TAG to the other columns."""
    done = controller.system("registry-image-list", "--deleted", "-f", "json", **run)
    assert (done.returncode, done.stderr) == (0, ""), done
    return {row["deleted_tag"]: row for row in json.loads(done.stdout)}


def test_a_deleted_image_and_a_deleted_index_are_restored_byte_for_byte(registry: Controller) -> None:
    client = registry.client()
    image, index = images.single(seed="plain"), images.multi_arch(seed="index")
    client.push("app", "v1", image)
    client.push("app", "all", index)
    delete(registry, "app:v1", "app:all")
    assert client.tags("app") == []

    found = deleted(registry)
    assert {name: row["digest"] for name, row in found.items()} == {
        "app:v1": image.digest,
        "app:all": index.digest,
    }
    assert {(row["deleted_by"], row["state"], row["reason"]) for row in found.values()} == {
        ("admin", "restorable", None)
    }
    done = registry.system("registry-image-restore", "app:v1", "app:all")
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "Image app:v1 restored\nImage app:all restored\n",
        "",
    )
    assert client.tags("app") == ["all", "v1"]
    for tag in ("v1", "all"):
        assert client.is_whole("app", tag)
    assert client.manifest("app", "all").content == index.manifest
    assert deleted(registry) == {}
    report = collected(registry)
    assert (report["blobs"], report["irrecoverable"]) == (1, 0)  # the record


def restore(controller: Controller, *words: str, **run: Any) -> tuple[int, str, str]:
    done = controller.system("registry-image-restore", *words, **run)
    return done.returncode, done.stdout, done.stderr


def test_a_tag_that_was_restored_and_deleted_again_is_listed_once(registry: Controller) -> None:
    registry.client().push("app", "v1", images.single(seed="twice"))
    delete(registry, "app:v1")
    assert restore(registry, "app:v1")[0] == 0
    delete(registry, "app:v1")
    done = registry.system("registry-image-list", "--deleted", "-f", "value", "-c", "Deleted Tag")
    assert done.stdout == "app:v1\n"


def test_a_delete_without_a_record_says_that_it_cannot_be_undone(registry: Controller) -> None:
    client, image = registry.client(), images.single(seed="untagged")
    client.push("app", image.digest, image)
    client.push("app", "v1", images.single(seed="tagged"))
    done = registry.system("registry-image-delete", f"app@{image.digest}")
    assert done.stdout == f"Image app@{image.digest} deleted (it cannot be restored)\n"
    done = registry.system("registry-image-delete", "app:v1", "-f", "json")
    assert json.loads(done.stdout)[0]["restorable"] is True


def test_a_tag_that_stands_for_something_else_is_not_touched(registry: Controller) -> None:
    client = registry.client()
    old, new = images.single(seed="old"), images.single(seed="new")
    client.push("app", "v1", old)
    delete(registry, "app:v1")
    client.push("app", "v1", new)

    assert deleted(registry)["app:v1"]["state"] == "tag in use"
    refused = f"app:v1 stands for {new.digest} now; restore it under another tag: --as TAG"
    assert restore(registry, "app:v1") == (1, "", f"system: {refused}\n")
    assert restore(registry, "app:v1", "--as", "v1-old") == (
        0,
        "Image app:v1 restored (as v1-old)\n",
        "",
    )
    assert (client.digest("app", "v1"), client.digest("app", "v1-old")) == (new.digest, old.digest)
    assert client.is_whole("app", "v1-old")


def test_an_image_of_schema_1_comes_back_although_the_registry_takes_none(registry: Controller) -> None:
    client = registry.client()
    with registry.registry_config(compatibility={"schema1": {"enabled": True}}):
        client.push("app", "v1", images.schema_1())
    digest = client.manifest("app", "v1").headers["Docker-Content-Digest"]
    delete(registry, "app:v1")
    assert restore(registry, "app:v1") == (0, "Image app:v1 restored\n", "")
    assert client.manifest("app", "v1").headers["Docker-Content-Digest"] == digest


def test_of_several_deletes_the_last_is_undone_and_a_digest_names_another(registry: Controller) -> None:
    client = registry.client()
    first, second = images.single(seed="first"), images.single(seed="second")
    for image in (first, second):
        client.push("app", "v1", image)
        delete(registry, "app:v1")
    assert restore(registry, "app:v1")[0] == 0
    assert client.digest("app", "v1") == second.digest
    assert restore(registry, f"app@{first.digest}", "--as", "first")[0] == 0
    assert client.is_whole("app", "first")


def test_all_tags_that_a_delete_of_a_digest_took_come_back(registry: Controller) -> None:
    client, image = registry.client(), images.single(seed="several")
    for tag in ("v1", "v2"):
        client.push("app", tag, image)
    delete(registry, "--yes", f"app@{image.digest}")
    expected = f"Image app@{image.digest} restored (as v1, v2)\n"
    assert restore(registry, f"app@{image.digest}") == (0, expected, "")
    assert client.tags("app") == ["v1", "v2"]
    # once more: nothing is left to do
    assert restore(registry, f"app@{image.digest}") == (0, expected, "")


def test_without_a_record_it_says_why_there_may_be_none(registry: Controller) -> None:
    client, image = registry.client(), images.single(seed="skopeo")
    client.push("app", "v1", image)
    client.request("DELETE", f"/v2/app/manifests/{image.digest}").raise_for_status()
    assert deleted(registry) == {}
    code, _, message = restore(registry, "app:v1")
    assert code == 1
    assert "app:v1: there is no record of its delete" in message
    assert "docker or skopeo, on distribution 3 or on a full disk" in message


def test_after_a_collection_nothing_can_be_restored(registry: Controller) -> None:
    image = images.single(seed="collected")
    registry.client().push("app", "v1", image)
    delete(registry, "app:v1")
    names = [f"app:v1@{image.digest}"]
    for words in (("--dry-run",), ()):
        report = collected(registry, *words)
        assert (report["irrecoverable"], report["irrecoverable_tags"]) == (1, names)
    assert deleted(registry) == {}
    assert restore(registry, "app:v1")[0] == 1


def test_a_user_sees_and_restores_only_their_own_images(registry: Controller) -> None:
    client = registry.client()
    for name in ("testuser/app", "testuser2/app"):
        client.push(name, "v1", images.single(seed=name))
        delete(registry, f"{name}:v1")
    user = ("--os-username", "testuser", "--os-password", registry.passwords["testuser"])
    found = registry.system(
        "registry-image-list", "--deleted", "-f", "value", "-c", "Deleted Tag", *user, user="testuser"
    )
    assert (found.returncode, found.stdout) == (0, "testuser/app:v1\n"), found
    assert restore(registry, "testuser/app:v1", *user, user="testuser")[0] == 0
    assert client.is_whole("testuser/app", "v1")
    code, _, message = restore(registry, "testuser2/app:v1", *user, user="testuser")
    assert (code, "testuser may not push in testuser2/app" in message) == (1, True), message
    assert client.tags("testuser2/app") == []
    # the others are tried
    delete(registry, "testuser/app:v1")
    wanted = ("testuser2/app:v1", "testuser/app:v1")
    code, said, message = restore(registry, *wanted, *user, user="testuser")
    assert (code, said) == (1, "Image testuser/app:v1 restored\n"), message
    assert "testuser may not push in testuser2/app" in message


def test_a_record_that_somebody_has_made_up_restores_nothing_of_others(registry: Controller) -> None:
    client, secret = registry.client(), images.multi_arch(seed="secret")
    client.push("secret", "v1", secret)
    digests = " ".join([secret.digest, *(child.digest for child in secret.children)])
    names = {"org.starlingx.sysreg.throw-away": "x", "org.starlingx.sysreg.releases.v1": digests}
    content = json.dumps({"schemaVersion": 2, "manifests": [], "annotations": names}).encode()
    record = images.Image(content, images.OCI_INDEX)
    own = registry.client("testuser")
    own.push("testuser/app", record.digest, record)
    own.request("DELETE", f"/v2/testuser/app/manifests/{record.digest}").raise_for_status()
    code, _, message = restore(registry, "testuser/app:v1")
    assert (code, "is not stored any more" in message) == (1, True), message
    assert client.tags("testuser/app") == []


@pytest.mark.parametrize("options", [(), ("--delete-untagged",)])
def test_what_keep_deleted_spares_can_be_restored_after_the_collection(
    registry: Controller, options: tuple[str, ...]
) -> None:
    client, index = registry.client(), images.multi_arch(seed="kept")
    signature = referrer(index)
    client.push("app", "v1", index)
    client.push("app", signature.digest, signature)
    delete(registry, "app:v1")
    client.push("other", "v1", images.single(seed="other"))
    client.request("DELETE", f"/v2/other/manifests/{client.digest('other', 'v1')}").raise_for_status()

    report = collected(registry, "--keep-deleted", "24h", *options)
    assert report["blobs"] == 3
    assert (report["irrecoverable"], report["warnings"]) == (0, [])
    assert restore(registry, "app:v1")[0] == 0
    assert client.is_whole("app", "v1")
    assert client.is_whole("app", signature.digest)


def test_a_collection_says_to_people_what_is_lost(registry: Controller) -> None:
    registry.client().push("app", "v1", images.single(seed="collected"))
    delete(registry, "app:v1")
    done = collect(registry, "--dry-run")
    assert "1 deleted tag could no longer be restored" in done.stdout.splitlines()
    done = collect(registry)
    assert "1 deleted tag can no longer be restored" in done.stdout.splitlines()


@pytest.mark.parametrize("time", ["24", "0h", "yesterday", "1000w"])
def test_an_impossible_keep_deleted_is_wrong_usage(registry: Controller, time: str) -> None:
    done = registry.system("registry-garbage-collect", "--keep-deleted", time)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"system: --keep-deleted: {time!r} is not a time such as 45m")


@pytest.mark.parametrize("collects", [False, True])
def test_pruned_tags_are_restored_also_after_a_collection_that_leaves_their_manifests(
    registry: Controller, collects: bool
) -> None:
    client, index = registry.client(), images.multi_arch(seed="pruned")
    for tag in ("v1", "v2"):
        client.push("app", tag, index)
    done = registry.system("registry-image-prune", "app", "--match", "*", "--yes")
    assert (done.returncode, client.tags("app")) == (0, []), done
    if collects:
        assert collected(registry)["irrecoverable"] == 0
    assert {row["deleted_by"] for row in deleted(registry).values()} == {"root"}
    assert restore(registry, "app:v1", "app:v2")[0] == 0
    assert client.is_whole("app", "v1")
    assert client.is_whole("app", "v2")


def test_pruned_tags_are_lost_with_their_manifests(registry: Controller) -> None:
    client, image = registry.client(), images.single(seed="pruned")
    client.push("app", "v1", image)
    assert registry.system("registry-image-prune", "app", "--match", "*", "--yes").returncode == 0
    assert collected(registry, "--delete-untagged", "--grace", "0")["irrecoverable_tags"] == [
        f"app:v1@{image.digest}"
    ]
    assert restore(registry, "app:v1")[0] == 1


def test_the_api_deletes_and_restores_for_whoever_calls(registry: Controller) -> None:
    client = registry.client()
    for tag in ("v1", "v2"):
        client.push("app", tag, images.single(seed=tag))

    def call(method: str, path: str) -> Any:
        socket = str(registry.paths.agent_socket)
        words = [
            "curl",
            "-sS",
            "--unix-socket",
            socket,
            "-X",
            method,
            f"http://agent/v1/registry_image{path}",
        ]
        done = registry.run(words)
        return json.loads(done.stdout) if done.stdout else None

    for tag in ("v1", "v2"):
        assert call("DELETE", f"?image_name_and_tag=app:{tag}") is None
    assert {row["deleted_by"] for row in call("GET", "/deleted")["deleted"]} == {"root"}
    done = call("POST", "/restore?image_name_and_tag=app:v1&image_name_and_tag=no/such:v1")
    assert [(it["image"], it["restored"]) for it in done["images"]] == [
        ("app:v1", True),
        ("no/such:v1", False),
    ]
    assert client.is_whole("app", "v1")
    refused = call("POST", "/restore?image_name_and_tag=app:v1&image_name_and_tag=app:v2&as=v3")
    assert refused["error"] == "as=TAG takes one image"


def test_the_example_of_the_guide_prints_what_it_shows(registry: Controller) -> None:
    guide = (Path(__file__).parents[3] / "docs/controller.rst").read_text()
    section = guide.partition("A delete by mistake\n")[2].partition("\nOld tags\n")[0]
    steps = list(steps_of(section))
    assert len(steps) == 3
    registry.client().push("testuser/hello", "1", images.single(seed="guide"))
    check(steps, registry.run(["bash", "-c", script_of(steps, "")]).stdout)
