"""A registry in memory that answers RegistryClient's calls as distribution 2.8 or 3 does.

``before[n]`` is called before the nth call; it may push something, or raise.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from sysreg_cli.errors import NotStored, NotSupported
from sysreg_cli.registry.manifests import OCI_INDEX, OCI_MANIFEST, Manifest


def image(name: str) -> Manifest:
    return Manifest(OCI_MANIFEST, json.dumps({"schemaVersion": 2, "annotations": {"name": name}}).encode())


def index(*parts: Manifest) -> Manifest:
    entries = [{"mediaType": part.media_type, "digest": part.digest} for part in parts]
    return Manifest(OCI_INDEX, json.dumps({"schemaVersion": 2, "manifests": entries}).encode())


class MemoryRegistry:
    where = "memory:1"

    def __init__(self, *, deletes_tags: bool = False, read_only: bool = False, full: bool = False) -> None:
        self.deletes_tags = deletes_tags
        self.read_only = read_only
        self.full = full
        self.manifests: dict[str, Manifest] = {}
        self.tagged: dict[str, str] = {}
        self.calls: list[str] = []
        self.before: dict[int, Callable[[], None]] = {}

    # what somebody else does

    def push(self, tag: str, *parts: Manifest) -> None:
        """Push parts and, last, what the tag shall stand for."""
        for part in parts:
            self.manifests[part.digest] = part
        self.tagged[tag] = parts[-1].digest

    def is_whole(self, tag: str) -> bool:
        def there(digest: str) -> bool:
            found = self.manifests.get(digest)
            return found is not None and all(there(child) for child in found.children)

        return there(self.tagged[tag])

    # RegistryClient

    def tags(self, repository: str) -> list[str]:
        self._count("tags")
        return sorted(self.tagged)

    def manifest(self, repository: str, reference: str) -> Manifest | None:
        self._count(f"get {reference}")
        return self.manifests.get(self.tagged.get(reference, reference))

    def put_manifest(self, repository: str, reference: str, manifest: Manifest) -> None:
        self._count(f"put {reference}")
        self._check_writable()
        if self.full:
            raise NotStored("no space left")
        assert all(child in self.manifests for child in manifest.children)
        self.manifests[manifest.digest] = manifest
        if not reference.startswith("sha256:"):
            self.tagged[reference] = manifest.digest

    def delete_manifest(self, repository: str, digest: str) -> bool:
        self._count(f"delete {digest}")
        self._check_writable()
        self.tagged = {tag: on for tag, on in self.tagged.items() if on != digest}
        return self.manifests.pop(digest, None) is not None

    def delete_tag(self, repository: str, tag: str) -> bool:
        self._count(f"delete {tag}")
        self._check_writable()
        if self.deletes_tags:
            self.tagged.pop(tag, None)
        return self.deletes_tags

    def _count(self, call: str) -> None:
        self.calls.append(call)
        if hook := self.before.get(len(self.calls)):
            hook()

    def _check_writable(self) -> None:
        if self.read_only:
            raise NotSupported("read-only")
