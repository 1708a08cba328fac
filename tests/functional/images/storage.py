"""What the registry has stored, read from its disk: the judge of what a delete left behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from devstack import images
from devstack.controller import Controller
from devstack.programs import REGISTRY_USER


def manifests(controller: Controller, repository: str) -> set[str]:
    """The digest of every manifest that the repository holds, tagged or not."""
    links = _repository(controller, repository).glob("_manifests/revisions/sha256/*/link")
    return {link.read_text() for link in links}


def tags(controller: Controller, repository: str) -> set[str]:
    links = _repository(controller, repository).glob("_manifests/tags/*/current/link")
    return {link.parent.parent.name for link in links}


@contextlib.contextmanager
def undeletable(controller: Controller, repository: str, digest: str) -> Iterator[None]:
    """Give the directory of a manifest's link to root meanwhile, as a careless restore does."""
    links = _repository(controller, repository) / "_manifests/revisions/sha256"
    directory = links / digest.removeprefix("sha256:")
    os.chown(directory, 0, 0)
    try:
        yield
    finally:
        shutil.chown(directory, REGISTRY_USER, REGISTRY_USER)


def seed_tags(controller: Controller, repository: str, count: int) -> None:
    """Write ``count`` tags v0000, v0001, ... into the storage, each on a manifest of its own."""
    image = images.single(seed=repository)
    controller.client().push(repository, "v0000", image)
    root, target = controller.paths.storage / "docker/registry/v2", _repository(controller, repository)
    for number in range(1, count):
        manifest = {**json.loads(image.manifest), "annotations": {"number": str(number)}}
        content = json.dumps(manifest).encode()
        digest = images.digest_of(content)
        sha256 = digest.removeprefix("sha256:")
        tag = target / f"_manifests/tags/v{number:04}"
        links = (target / "_manifests/revisions", tag / "index")
        for link in (tag / "current", *(above / "sha256" / sha256 for above in links)):
            link.mkdir(parents=True)
            (link / "link").write_text(digest)
        blob = root / "blobs/sha256" / sha256[:2] / sha256
        blob.mkdir(parents=True)
        (blob / "data").write_bytes(content)
    subprocess.run(["chown", "-R", f"{REGISTRY_USER}:", str(root)], check=True)


def _repository(controller: Controller, repository: str) -> Path:
    return controller.paths.storage / "docker/registry/v2/repositories" / repository


@contextlib.contextmanager
def damaged(controller: Controller, digest: str, content: bytes = b"") -> Iterator[None]:
    """Replace the content of a stored manifest meanwhile: by nothing, as a full disk or a crash does."""
    sha256 = digest.removeprefix("sha256:")
    data = controller.paths.storage / "docker/registry/v2/blobs/sha256" / sha256[:2] / sha256 / "data"
    whole = data.read_bytes()
    data.write_bytes(content)
    try:
        yield
    finally:
        if data.exists():
            data.write_bytes(whole)
