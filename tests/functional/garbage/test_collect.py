"""A collection frees space and keeps every tagged image."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from devstack import images
from devstack.controller import Controller
from tests.functional.garbage.conftest import collect, collected, writes_ended

MEGABYTE = 1024 * 1024


def disk_usage(path: Path) -> int:
    done = subprocess.run(["du", "-s", "-B1", path], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])


def blobs_in(controller: Controller) -> set[str]:
    return {
        f"sha256:{path.parent.name}"
        for path in controller.paths.storage.glob("docker/registry/v2/blobs/*/*/*/data")
    }


def delete(controller: Controller, repository: str, tag: str) -> None:
    done = controller.system("registry-image-delete", f"{repository}:{tag}")
    assert done.returncode == 0, done.stderr
    writes_ended(controller)


def referrer(subject: images.Image) -> images.Image:
    """A signature as OCI 1.1 attaches it: an untagged manifest that names its subject."""
    body = json.loads((signature := images.single()).manifest)
    body["subject"] = subject.descriptor()
    return images.Image(json.dumps(body).encode(), signature.media_type, signature.blobs)


def test_deleting_two_of_five_large_images_frees_what_is_reported_and_no_more(registry: Controller) -> None:
    client = registry.client()
    five = {f"big/{number}": images.single(10 * MEGABYTE, layers=4) for number in range(5)}
    for repository, image in five.items():
        client.push(repository, "1", image)
    before = disk_usage(registry.paths.storage)
    for repository in ("big/1", "big/3"):
        delete(registry, repository, "1")

    listed = collect(registry, "--dry-run").stdout
    there = blobs_in(registry)
    report = collected(registry)

    assert abs((before - disk_usage(registry.paths.storage)) / report["bytes"] - 1) < 0.01
    assert report["bytes"] > 2 * 4 * 10 * MEGABYTE
    gone = there - blobs_in(registry)
    assert set(re.findall(r"^blob (\S+) \d+$", listed, re.M)) == gone
    assert len(gone) == report["blobs"]
    assert set(re.findall(r"^repository (\S+)$", listed, re.M)) == {"big/1", "big/3"}
    assert client.catalog() == ["big/0", "big/2", "big/4"]
    for repository in ("big/0", "big/2", "big/4"):
        pulled = registry.run(
            [
                "skopeo",
                "copy",
                f"docker://{registry.address}/{repository}:1",
                f"dir:{registry.paths.root}/pulled",
                f"--src-creds=admin:{registry.passwords['admin']}",
            ]
        )
        assert pulled.returncode == 0, pulled.stderr
        assert client.is_whole(repository, "1")

    again = collected(registry)
    assert (again["blobs"], again["bytes"], again["writes_held"]) == (0, 0, 0)


def test_the_report_through_a_pipe_is_the_contracts_lines_and_nothing_else(registry: Controller) -> None:
    client = registry.client()
    client.push("app", "1", images.single())
    client.push("app", "2", images.single())
    delete(registry, "app", "1")
    done = collect(registry)
    first, second, third = done.stdout.splitlines()
    assert first == "Running docker registry garbage collect"
    assert re.fullmatch(r"Freed \d blobs, \d+ bytes in [\d.]+ s; writes were held for [\d.]+ s", second)
    assert third == "1 deleted tag can no longer be restored"
    assert (done.returncode, done.stderr) == (0, "")


def test_multi_arch_images_and_signatures_stay_whole_and_orphans_go(registry: Controller) -> None:
    client = registry.client()
    oci = images.multi_arch()
    docker = images.multi_arch(docker=True)
    nested = images.index(images.multi_arch(), images.single(platform=True))
    attested = images.index(
        images.single(platform=True), images.single(architecture="unknown", platform=True)
    )
    for tag, image in {
        "oci": oci,
        "also": oci,
        "docker": docker,
        "nested": nested,
        "attested": attested,
    }.items():
        client.push("app", tag, image)
    signed = images.single()
    client.push("app", "signed", signed)
    signature = referrer(signed)
    client.push("app", signature.digest, signature)
    for orphan in (images.single(50_000), images.multi_arch(50_000)):
        client.push("app", "moved", orphan)
    client.push("app", "moved", images.single())

    report = collected(registry, "--delete-untagged")

    for tag in ("oci", "also", "docker", "nested", "attested", "signed", "moved"):
        assert client.is_whole("app", tag), tag
    assert client.is_whole("app", signature.digest)
    assert report["manifests"] == 4
    assert 150_000 < report["bytes"] < 160_000
    assert collected(registry, "--delete-untagged")["blobs"] == 0


def test_deleting_one_of_two_tags_on_an_index_keeps_it_for_the_other(registry: Controller) -> None:
    client = registry.client()
    image = images.multi_arch()
    client.push("app", "1", image)
    client.push("app", "2", image)
    delete(registry, "app", "1")
    collected(registry, "--delete-untagged")
    assert client.is_whole("app", "2")
    delete(registry, "app", "2")
    collected(registry, "--delete-untagged")
    assert blobs_in(registry) == set()
    assert client.catalog() == []


def test_a_push_under_way_loses_none_of_its_layers(registry: Controller) -> None:
    client = registry.client()
    image = images.single(layers=2)
    for blob in image.blobs:
        client.put_blob("app", blob)
    client.push("other", "1", (gone := images.single()))
    client.delete("other", gone.digest)
    assert collected(registry)["pinned"] == 3
    client.put_manifest("app", "1", image)
    assert client.is_whole("app", "1")
    assert client.catalog() == ["app"]


def test_nested_repositories_stay_when_the_outer_one_goes(registry: Controller) -> None:
    client = registry.client()
    for repository in ("a", "a/b", "a/b/c"):
        client.push(repository, "1", images.single())
    delete(registry, "a", "1")
    delete(registry, "a/b/c", "1")
    assert collected(registry)["repositories"] == 2
    assert client.catalog() == ["a/b"]
    assert client.is_whole("a/b", "1")


def test_with_a_descriptor_cache_a_push_after_the_collection_stores_its_layer(registry: Controller) -> None:
    image = images.single()
    with registry.registry_config(storage={"cache": {"blobdescriptor": "inmemory"}}):
        client = registry.client()
        client.push("app", "1", image)
        client.push("kept", "1", images.single())
        assert client.is_whole("app", "1")
        delete(registry, "app", "1")
        assert collected(registry)["blobs"] >= 3
        registry.wait_ready()
        client.push("app", "1", image)
        assert client.is_whole("app", "1")
