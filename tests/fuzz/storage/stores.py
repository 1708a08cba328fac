"""Small storages with images of every kind, as pushes and deletes leave them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from random import Random

from devstack.programs import REGISTRY_USER
from tests.unit.agent.storage.builder import DOCKER_LIST, DOCKER_MANIFEST, Storage

_KINDS = ("plain", "platforms", "nested", "signed", "cache", "docker", "old", "shared", "second")


def build(root: Path, random: Random) -> Storage:
    """Write a storage with some of all kinds below ``root``, in place of what is there."""
    shutil.rmtree(root / "docker", ignore_errors=True)
    storage = Storage(root, age=7200)
    for kind in random.sample(_KINDS, random.randint(2, 5)):
        globals()[f"_{kind}"](storage)
    storage.age = 60
    if random.random() < 0.5:
        storage.delete("app", storage.image("app", "gone", layers=(b"gone", b"base")))
    if random.random() < 0.5:
        storage.index("app", children=(storage.image("app", layers=(b"untagged", b"base")),))
    if random.random() < 0.3:
        upload = storage.repositories / "app/_uploads/6fdbb6ab"
        upload.mkdir(parents=True)
        (upload / ("hashstates" if random.random() < 0.5 else "startedat")).write_text("2026-01-01T00:00:00Z")
    own(root)
    return storage


def own(root: Path) -> None:
    """Give everything to the registry's user, as the advice about wrong owners says."""
    subprocess.run(["chown", "-hR", f"{REGISTRY_USER}:", str(root / "docker")], check=True)


def make_old(top: Path) -> None:
    """Make everything as old as if the grace time were over."""
    then = time.time() - 7200
    for path in top.rglob("*"):
        os.utime(path, (then, then), follow_symlinks=False)


def _plain(storage: Storage) -> None:
    storage.image("app", "v1", "v1-again", layers=(b"base", b"v1"))
    storage.image("app", "v2", layers=(b"base", b"v2"))


def _platforms(storage: Storage) -> None:
    children = [storage.image("app", layers=(b"base", name)) for name in (b"amd64", b"arm64")]
    storage.index("app", "multi", children=(children[0], children[1]))
    storage.index("app", "arm-only", children=(children[1],))


def _nested(storage: Storage) -> None:
    inner = storage.index("app", children=(storage.image("app", layers=(b"inner",)),))
    document = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json"}
    entry = {**storage.descriptor(inner), "mediaType": document["mediaType"]}
    storage.put("app", {**document, "manifests": [entry]}, "nested")


def _signed(storage: Storage) -> None:
    signed = storage.image("app", "signed", layers=(b"signed",))
    storage.image("app", layers=(b"referrer",), subject=signed)
    storage.image("app", signed.replace(":", "-") + ".sig", layers=(b"signature",))


def _cache(storage: Storage) -> None:
    """The build cache of buildx: an index whose entries are layers."""
    entries = [
        {**storage.descriptor(storage.upload("app", data)), "mediaType": kind}
        for data, kind in (
            (b"cached", "application/vnd.oci.image.layer.v1.tar+gzip"),
            (b'{"layers":[]}', "application/vnd.buildkit.cacheconfig.v0"),
        )
    ]
    kind = "application/vnd.oci.image.index.v1+json"
    storage.put("app", {"schemaVersion": 2, "mediaType": kind, "manifests": entries}, "cache")


def _docker(storage: Storage) -> None:
    child = storage.image("app", layers=(b"base", b"docker"), kind=DOCKER_MANIFEST)
    entries = [{**storage.descriptor(child), "mediaType": DOCKER_MANIFEST, "platform": {"os": "linux"}}]
    document = {"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": entries}
    storage.put("app", document, "list")


def _old(storage: Storage) -> None:
    """Docker's schema 1, as the registry stores it: without signatures."""
    layer = storage.upload("app", b"old")
    history = [{"v1Compatibility": json.dumps({"id": "a" * 64})}]
    document = {"schemaVersion": 1, "name": "app", "tag": "old", "architecture": "amd64"}
    storage.put("app", {**document, "fsLayers": [{"blobSum": layer}], "history": history}, "old")


def _shared(storage: Storage) -> None:
    """Content that is in two repositories."""
    storage.image("team/app", "v1", layers=(b"base", b"v1"))


def _second(storage: Storage) -> None:
    storage.image("team/app/sub", "latest", layers=(b"sub",))
    storage.age, age = 0, storage.age
    storage.upload("team/push", b"a push under way")
    storage.age = age
    os.utime(storage.path(storage.blob(b"a push under way")))
