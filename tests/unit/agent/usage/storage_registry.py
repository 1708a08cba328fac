"""A registry of distribution 3 that serves a storage on disk to the real delete.

It answers as the real registry does (docs/behaviour.rst, "docker-registry"), also for damaged files. It
deletes a tag by its name, so no placeholder is left in the storage.
"""

from __future__ import annotations

import hashlib
import json
import shutil

from sysreg_cli.errors import ProtocolError
from sysreg_cli.reference import ImageReference, is_digest
from sysreg_cli.registry.manifests import OCI_MANIFEST, RemoteManifest, UnreadableManifest
from tests.unit.agent.storage.builder import Storage


class StorageRegistry:
    where = "storage:1"

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def user(self, repository: str) -> str:
        return "somebody"

    def tags(self, repository: str) -> list[str]:
        tags = self._storage.repositories / repository / "_manifests/tags"
        return sorted(path.name for path in tags.iterdir()) if tags.is_dir() else []

    def manifest(
        self, image: ImageReference, _known: RemoteManifest | None = None
    ) -> RemoteManifest | UnreadableManifest | None:
        digest = image.digest
        if image.tag:
            link = self._storage.tag(image.repository, image.tag)
            if not link.exists():
                return None
            digest = link.read_text()
            if not is_digest(digest):
                return UnreadableManifest()
        revision = self._storage.revision(image.repository, digest)
        if not revision.exists():
            return None
        if revision.read_text() != digest:
            return UnreadableManifest(image.digest)
        if not self._storage.path(digest).exists():
            return None
        content = self._storage.path(digest).read_bytes()
        if "sha256:" + hashlib.sha256(content).hexdigest() != digest:
            return UnreadableManifest(image.digest)
        return RemoteManifest(json.loads(content).get("mediaType", OCI_MANIFEST), content)

    def delete_manifest(self, image: ImageReference) -> bool:
        revision = self._storage.revision(image.repository, image.digest)
        if revision.exists() and revision.read_text() != image.digest:
            raise ProtocolError(f"deleting {image} failed")
        if not revision.exists() or not self._storage.path(image.digest).exists():
            return False
        self._storage.delete(image.repository, image.digest)
        return True

    def delete_tag(self, image: ImageReference) -> bool:
        shutil.rmtree(self._storage.tag(image.repository, image.tag).parent.parent)
        return True
