"""Manifests as the registry stores them, and the throw-away that deletes a tag; pure.

Media types: OCI image specification 1.1, docker image manifest version 2 schema 2.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sysreg_cli.reference import is_digest

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
#: All four, always: asked for fewer, 2.8 answers with the linux/amd64 child of a list, or 404 for an index.
ACCEPT = ", ".join((OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST))

_THROW_AWAY = "org.starlingx.sysreg.throw-away"
_RELEASES = "org.starlingx.sysreg.releases"


@dataclass(frozen=True)
class Manifest:
    """One manifest, byte for byte as stored."""

    media_type: str
    content: bytes

    @cached_property
    def digest(self) -> str:
        return "sha256:" + hashlib.sha256(self.content).hexdigest()

    @cached_property
    def children(self) -> tuple[str, ...]:
        """Digests of the manifests that an index names; empty for an image."""
        return tuple(dict.fromkeys(digest for digest, _ in self._entries))

    @cached_property
    def nested(self) -> tuple[str, ...]:
        """Those of the children that are, or may be, an index themselves."""
        images = (OCI_MANIFEST, DOCKER_MANIFEST)
        return tuple(dict.fromkeys(digest for digest, kind in self._entries if kind not in images))

    @cached_property
    def blobs(self) -> dict[str, int]:
        """What goes with an image when nothing else needs it, digest -> bytes: itself, its config and layers.

        For an index itself alone. The sizes are those that the manifest names.
        """
        found = {self.digest: len(self.content)}
        layers = self._data.get("layers")
        for entry in (self._data.get("config"), *(layers if isinstance(layers, list) else ())):
            size = entry.get("size") if isinstance(entry, dict) else None
            if isinstance(size, int) and size >= 0 and isinstance(entry.get("digest"), str):
                found[entry["digest"]] = size
        return found

    @cached_property
    def _entries(self) -> list[tuple[str, str]]:
        entries = self._data.get("manifests")
        found = []
        for entry in entries if isinstance(entries, list) else ():
            digest = entry.get("digest") if isinstance(entry, dict) else None
            if isinstance(digest, str) and is_digest(digest):
                found.append((digest, str(entry.get("mediaType", ""))))
        return found

    @cached_property
    def releases(self) -> tuple[str, ...] | None:
        """For a throw-away of ours: the manifests that its tag stood for; None for every other manifest."""
        annotations = self._data.get("annotations")
        if not isinstance(annotations, dict) or _THROW_AWAY not in annotations or self.children:
            return None
        return tuple(digest for digest in str(annotations.get(_RELEASES, "")).split() if is_digest(digest))

    @cached_property
    def _data(self) -> dict[str, Any]:
        try:
            data = json.loads(self.content)
        except (ValueError, RecursionError):
            return {}
        return data if isinstance(data, dict) else {}


def throw_away(releases: Sequence[str]) -> Manifest:
    """An empty index that no other tag can share: the registry takes it without any blob.

    It carries the digests that its tag stood for, so that a delete which was cut short can be finished.
    """
    content = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [],
        "annotations": {_THROW_AWAY: str(uuid.uuid4()), _RELEASES: " ".join(releases)},
    }
    return Manifest(OCI_INDEX, json.dumps(content).encode())
