"""docker, containerd and skopeo pull of a restored tag the bytes that they pulled before its delete."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from devstack import images
from devstack.controller import Controller
from tests.containerd import Containerd, containerd
from tests.dockerd import Docker
from tests.functional.garbage.conftest import registry, shared
from tests.functional.usage.test_show import referrer

__all__ = ["registry", "shared"]  # fixtures: an empty registry of its own


def with_skopeo(controller: Controller, reference: str, directory: Path) -> Any:
    """Return what skopeo writes: each manifest and blob, by its name."""
    credentials = f"--src-creds=admin:{controller.passwords['admin']}"
    done = controller.run(
        ["skopeo", "copy", "--all", credentials, f"docker://{reference}", f"dir:{directory}"]
    )
    assert done.returncode == 0, done.stderr
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def with_containerd(client: Containerd, controller: Controller, reference: str) -> Any:
    """Return the digest of the image, and those of all that containerd has fetched and verified for it."""
    done = client.fetch(reference, "--tlscacert", str(controller.paths.ca_file), user="admin")
    assert done.returncode == 0, done.stderr
    listed, content = client.run("images", "list"), client.run("content", "list", "--quiet")
    (line,) = [line for line in listed.stdout.splitlines() if line.startswith(reference)]
    assert client.run("images", "remove", "--sync", reference).returncode == 0
    assert client.run("content", "list", "--quiet").stdout == ""
    return line.split()[2], sorted(content.stdout.split())


def with_docker(docker: Docker, reference: str) -> Any:
    """Return the digest of the image, and the id of its configuration, which names the layers."""
    docker.run("pull", "--quiet", reference)
    (found,) = json.loads(docker.run("image", "inspect", reference).stdout)
    docker.run("image", "rm", reference)
    return found["RepoDigests"], found["Id"], found["RootFS"]


def test_docker_containerd_and_skopeo_pull_the_same_as_before(registry: Controller, tmp_path: Path) -> None:
    client = registry.client()
    image, index, docker_list = (
        images.single(seed="image", layers=2),
        images.multi_arch(seed="index"),
        images.multi_arch(seed="list", docker=True),
    )
    signature, cosign = referrer(image), images.single(seed="cosign")
    tags = {
        "image": image,
        "index": index,
        "list": docker_list,
        "nested": images.index(index, images.single(seed="more", platform=True)),
        f"{image.digest.replace(':', '-')}.sig": cosign,
    }
    for tag, pushed in tags.items():
        client.push("app", tag, pushed)
    client.push("app", signature.digest, signature)
    numbers = iter(range(100))

    with Docker(registry) as docker, containerd(registry, tmp_path) as ctr:

        def pull_with_skopeo(name: str) -> Any:
            return with_skopeo(registry, f"{registry.address}/{name}", tmp_path / f"pulled{next(numbers)}")

        def pull_all() -> Any:
            # skopeo refuses an index in an index, and docker what is no image of its platform
            by_digest = f"app@{signature.digest}"
            return (
                {tag: pull_with_skopeo(f"app:{tag}") for tag in tags if tag != "nested"},
                pull_with_skopeo(by_digest),
                {tag: with_containerd(ctr, registry, f"{registry.address}/app:{tag}") for tag in tags},
                {
                    tag: with_docker(docker, f"{registry.address}/app:{tag}")
                    for tag in ("image", "index", "list")
                },
            )

        before = pull_all()
        named = [f"app:{tag}" for tag in tags]
        done = registry.system("registry-image-delete", *named)
        assert (done.returncode, client.tags("app")) == (0, []), done
        done = registry.system("registry-image-restore", *named)
        assert (done.returncode, done.stderr) == (0, ""), done
        assert pull_all() == before
