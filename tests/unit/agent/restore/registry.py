"""A registry of distribution 2.8 on a storage, whose client is killed."""

from __future__ import annotations

from sysreg_cli.reference import ImageReference
from sysreg_cli.registry.manifests import RemoteManifest, UnreadableManifest
from tests.unit.agent.storage.builder import Storage
from tests.unit.agent.usage.storage_registry import StorageRegistry


class Killed(BaseException):
    """The process of a delete ends."""


class KilledRegistry(StorageRegistry):
    """A registry of distribution 2.8 whose client is killed right before its request ``last``; 0: never."""

    def __init__(self, storage: Storage, last: int = 0) -> None:
        super().__init__(storage)
        self._left = last

    def _count(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise Killed

    def tags(self, repository: str) -> list[str]:
        self._count()
        return super().tags(repository)

    def manifest(
        self, image: ImageReference, known: RemoteManifest | None = None
    ) -> RemoteManifest | UnreadableManifest | None:
        self._count()
        return super().manifest(image, known)

    def put_manifest(self, image: ImageReference, manifest: RemoteManifest) -> None:
        self._count()
        self._storage.put(image.repository, manifest.document, *([image.tag] if image.tag else []))

    def delete_manifest(self, image: ImageReference) -> bool:
        self._count()
        return super().delete_manifest(image)

    def delete_tag(self, _image: ImageReference) -> bool:
        return False
