"""Builds registry storages on disk, in the layout of distribution 2.8, as pushes and deletes leave them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from sysreg_cli.registry.manifests import placeholder

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"


class Storage:
    """A storage below ``root``. Everything is as old as ``age`` seconds, until that is changed."""

    def __init__(self, root: Path, age: float = 7200) -> None:
        self.root = root
        self.base = root / "docker/registry/v2"
        self.blobs = self.base / "blobs"
        self.repositories = self.base / "repositories"
        self.age = age
        root.mkdir(parents=True, exist_ok=True)

    # -- pushing ---------------------------------------------------------------------------------------

    def blob(self, data: bytes) -> str:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        path = self.path(digest)
        if not path.exists():
            self._write(path, data)
        return digest

    def upload(self, repository: str, data: bytes) -> str:
        """Add a blob and its link in a repository, as a completed upload does."""
        digest = self.blob(data)
        self._write(self._link(repository, "_layers", digest), digest.encode())
        return digest

    def put(self, repository: str, document: dict[str, Any], *tags: str) -> str:
        """Push a manifest, by digest or by tags. Its blobs must exist."""
        digest = self.blob(json.dumps(document).encode())
        self._write(self._link(repository, "_manifests/revisions", digest), digest.encode())
        for tag in tags:
            base = f"_manifests/tags/{tag}"
            self._write(self._link(repository, f"{base}/index", digest), digest.encode())
            self._write(self.repositories / repository / base / "current/link", digest.encode())
        return digest

    def image(
        self,
        repository: str,
        *tags: str,
        layers: tuple[bytes, ...] = (),
        kind: str = OCI_MANIFEST,
        **extra: Any,
    ) -> str:
        config = json.dumps({"architecture": "amd64", "of": [layer.hex() for layer in layers], **extra})
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": kind,
            "config": self.descriptor(self.upload(repository, config.encode())),
            "layers": [self.descriptor(self.upload(repository, layer)) for layer in layers],
        }
        if "subject" in extra:
            document["subject"] = self.descriptor(extra["subject"])
        return self.put(repository, document, *tags)

    def index(
        self, repository: str, *tags: str, children: tuple[str, ...], kind: str = OCI_INDEX, **extra: Any
    ) -> str:
        document = {
            "schemaVersion": 2,
            "mediaType": kind,
            "manifests": [{**self.descriptor(child), "mediaType": OCI_MANIFEST} for child in children],
            **extra,
        }
        return self.put(repository, document, *tags)

    def descriptor(self, digest: str) -> dict[str, Any]:
        return {
            "mediaType": "application/octet-stream",
            "digest": digest,
            "size": self.path(digest).stat().st_size,
        }

    # -- deleting --------------------------------------------------------------------------------------

    def delete(self, repository: str, digest: str) -> None:
        """Delete a manifest as DELETE manifests/<digest> does: its link and its tags, but no blob."""
        self._link(repository, "_manifests/revisions", digest).unlink()
        for current in (self.repositories / repository / "_manifests/tags").glob("*/current/link"):
            if current.read_text() == digest:
                shutil.rmtree(current.parent.parent)

    def delete_tag(self, repository: str, tag: str, *, by: str = "somebody") -> str:
        """Delete a tag and the manifests of its tree, as registry-image-delete does. Return the record."""
        root = self.tag(repository, tag).read_text()
        children = json.loads(self.path(root).read_bytes()).get("manifests", ())
        tree = [root, *(child["digest"] for child in children)]
        record = self.put(repository, placeholder({tag: tree}, by=by).document, tag)
        for digest in (*tree, record):
            self.delete(repository, digest)
        return record

    def lose(self, digest: str) -> None:
        shutil.rmtree(self.path(digest).parent)

    # -- places ----------------------------------------------------------------------------------------

    def path(self, digest: str) -> Path:
        digits = digest.removeprefix("sha256:")
        return self.blobs / "sha256" / digits[:2] / digits / "data"

    def revision(self, repository: str, digest: str) -> Path:
        return self._link(repository, "_manifests/revisions", digest)

    def tag(self, repository: str, tag: str) -> Path:
        return self.repositories / repository / "_manifests/tags" / tag / "current/link"

    def all_blobs(self) -> set[str]:
        return {f"sha256:{path.parent.name}" for path in self.blobs.glob("sha256/*/*/data")}

    def _link(self, repository: str, kind: str, digest: str) -> Path:
        return self.repositories / repository / kind / digest.replace(":", "/") / "link"

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        then = time.time() - self.age
        os.utime(path, (then, then))
