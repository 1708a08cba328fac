"""A registry in memory that answers RegistryClient's calls as distribution 2.8 or 3 does.

``before[n]`` is called before the nth call; it may push something, or raise.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

from sysreg_cli.errors import NotStored, NotSupported, ProtocolError, TagsLeft
from sysreg_cli.reference import ImageReference
from sysreg_cli.registry.manifests import OCI_INDEX, OCI_MANIFEST, RemoteManifest, UnreadableManifest


def image(name: str) -> RemoteManifest:
    return RemoteManifest(
        OCI_MANIFEST, json.dumps({"schemaVersion": 2, "annotations": {"name": name}}).encode()
    )


def index(*parts: RemoteManifest) -> RemoteManifest:
    entries = [{"mediaType": part.media_type, "digest": part.digest} for part in parts]
    return RemoteManifest(OCI_INDEX, json.dumps({"schemaVersion": 2, "manifests": entries}).encode())


class MemoryRegistry:
    where = "memory:1"

    def __init__(self, *, deletes_tags: bool = False, read_only: bool = False, full: bool = False) -> None:
        self.deletes_tags = deletes_tags
        self.read_only = read_only
        self.full = full
        self.manifests: dict[str, RemoteManifest] = {}
        self.tagged: dict[str, str] = {}
        #: digests whose manifests the registry answers with 500, and those that it cannot delete either
        self.damaged: set[str] = set()
        self.undeletable: set[str] = set()
        #: tags whose links cannot be read: 2.8 then deletes a manifest without its tags
        self.unreadable_links: set[str] = set()
        self.calls: list[str] = []
        self.before: dict[int, Callable[[], None]] = {}
        self._lock = threading.Lock()  # tags are read in parallel

    # what somebody else does

    def push(self, tag: str, *parts: RemoteManifest) -> None:
        """Push parts and, last, what the tag shall stand for."""
        for part in parts:
            self.manifests[part.digest] = part
        self.tagged[tag] = parts[-1].digest

    def is_whole(self, tag: str) -> bool:
        def there(digest: str) -> bool:
            manifest = self.manifests.get(digest)
            return manifest is not None and all(there(child) for child in manifest.children)

        return there(self.tagged[tag])

    # RegistryClient

    def user(self, repository: str) -> str:
        return "somebody"

    def tags(self, repository: str) -> list[str]:
        self._count("tags")
        return sorted(self.tagged)

    def manifest(
        self, image: ImageReference, known: RemoteManifest | None = None
    ) -> RemoteManifest | UnreadableManifest | None:
        reference = image.tag or image.digest
        self._count(f"{'check' if known else 'get'} {reference}")
        if reference in self.unreadable_links:
            return UnreadableManifest()
        digest = self.tagged.get(reference, reference)
        if known is not None and known.digest == digest:
            return known
        if digest in self.damaged and digest in self.manifests:
            return UnreadableManifest(image.digest)
        return self.manifests.get(digest)

    def stands_for(self, image: ImageReference, digest: str) -> bool:
        self._count(f"compare {image.tag}")
        return self.tagged.get(image.tag) == digest

    def put_manifest(self, image: ImageReference, manifest: RemoteManifest) -> None:
        self._count(f"put {image.tag or image.digest}")
        self._check_writable()
        if self.full:
            raise NotStored("no space left")
        assert all(child in self.manifests for child in manifest.children)
        self.manifests[manifest.digest] = manifest
        if image.tag:
            self.unreadable_links.discard(image.tag)
            self.tagged[image.tag] = manifest.digest

    def delete_manifest(self, image: ImageReference) -> bool:
        self._count(f"delete {image.digest}")
        self._check_writable()
        if image.digest in self.undeletable:
            raise ProtocolError(f"deleting {image} failed", next_step="push it again")
        if self.unreadable_links and image.digest in self.manifests:
            del self.manifests[image.digest]
            raise TagsLeft(f"deleting {image} failed")
        self.tagged = {tag: on for tag, on in self.tagged.items() if on != image.digest}
        return self.manifests.pop(image.digest, None) is not None

    def delete_tag(self, image: ImageReference) -> bool:
        self._count(f"delete {image.tag}")
        self._check_writable()
        if self.deletes_tags:
            self.tagged.pop(image.tag, None)
        return self.deletes_tags

    def _count(self, call: str) -> None:
        with self._lock:
            self.calls.append(call)
            number = len(self.calls)
        if hook := self.before.get(number):
            hook()

    def _check_writable(self) -> None:
        if self.read_only:
            raise NotSupported("read-only")


class MemoryStorage:
    """The storage of ``registry``, as a delete uses it."""

    def __init__(self, registry: MemoryRegistry) -> None:
        self.registry = registry

    def tags(self, repository: str) -> dict[str, str]:
        links = self.registry.unreadable_links
        return {tag: "" if tag in links else digest for tag, digest in self.registry.tagged.items()}

    def remove_tag(self, repository: str, tag: str, digest: str) -> None:
        assert self.tags(repository).pop(tag) == digest
        del self.registry.tagged[tag]
        self.registry.unreadable_links.discard(tag)

    def finish_delete(self, repository: str, digest: str) -> None:
        assert digest not in self.registry.manifests
        self.registry.tagged = {tag: on for tag, on in self.registry.tagged.items() if on != digest}
