"""Manifests as the registry stores them, and the placeholder manifest that deletes a tag. No I/O.

Media types: OCI image specification 1.1, docker image manifest version 2 schema 2.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sysreg_cli.reference import is_digest

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+"
#: All four, always: asked for fewer, 2.8 answers with the linux/amd64 child of a list, or 404 for an index.
ACCEPT = ", ".join((OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST))
# Media types that an index gives to an index. A descriptor without a media type may name one.
_INDEXES = frozenset({OCI_INDEX, DOCKER_LIST, ""})
#: Media types that an index gives to the manifests it names. It may name blobs, too.
MANIFEST_TYPES = _INDEXES | {OCI_MANIFEST, DOCKER_MANIFEST, f"{_SCHEMA_1}json", f"{_SCHEMA_1}prettyjws"}

# Registries hold these names: a delete that an older version left half done has to be found again.
_PLACEHOLDER = "org.starlingx.sysreg.throw-away"
_REPLACES = "org.starlingx.sysreg.releases"


@dataclass(frozen=True, slots=True)
class UnreadableManifest:
    """A manifest that the registry cannot read: its file is empty, cut short, or another one's.

    ``digest`` is empty if the registry does not tell it, as 2.8 does not for a tag.
    """

    digest: str = ""


@dataclass(frozen=True)
class RemoteManifest:
    """One manifest, byte for byte as stored."""

    media_type: str
    content: bytes

    @cached_property
    def digest(self) -> str:
        return "sha256:" + hashlib.sha256(self.content).hexdigest()

    @cached_property
    def children(self) -> tuple[str, ...]:
        """Digests of the manifests that an index names. Empty for an image.

        The index of a buildx cache names layers. The registry serves these as blobs, not as manifests.
        """
        return self._digests(lambda media_type: media_type in MANIFEST_TYPES)

    @cached_property
    def indexes(self) -> tuple[str, ...]:
        """Those of ``children`` that are an index, or may be one."""
        return self._digests(lambda media_type: media_type in _INDEXES)

    @cached_property
    def references(self) -> tuple[str, ...]:
        """Digests of all that an index names, whatever media types it gives them."""
        return self._digests(lambda _: True)

    @cached_property
    def blobs(self) -> dict[str, int]:
        """Digest to bytes of itself and of the blobs that it names. The sizes are those that it names."""
        blobs = {self.digest: len(self.content)}
        for entry in (*self._entries("config"), *self._entries("layers"), *self._entries("manifests")):
            size = entry.get("size")
            if isinstance(size, int) and size >= 0 and entry["digest"] not in self.children:
                blobs[entry["digest"]] = size
        return blobs

    @cached_property
    def replaces(self) -> tuple[str, ...] | None:
        """Of a placeholder: the manifests that its tag stood for, the root first. Of others: None."""
        annotations = self._data.get("annotations")
        if (
            not isinstance(annotations, dict)
            or _PLACEHOLDER not in annotations
            or self._data.get("manifests")
        ):
            return None
        return tuple(digest for digest in str(annotations.get(_REPLACES, "")).split() if is_digest(digest))

    def _digests(self, accepts: Callable[[str], bool]) -> tuple[str, ...]:
        entries = self._entries("manifests")
        return tuple(dict.fromkeys(e["digest"] for e in entries if accepts(str(e.get("mediaType") or ""))))

    def _entries(self, key: str) -> list[dict[str, Any]]:
        """Return the descriptors under ``key``, one or a list of them, that have a digest."""
        value = self._data.get(key)
        return [
            entry
            for entry in (value if isinstance(value, list) else [value])
            if isinstance(entry, dict) and isinstance(entry.get("digest"), str) and is_digest(entry["digest"])
        ]

    @cached_property
    def _data(self) -> dict[str, Any]:
        try:
            data = json.loads(self.content)
        except (ValueError, RecursionError):
            return {}
        return data if isinstance(data, dict) else {}


def placeholder(replaces: Sequence[str]) -> RemoteManifest:
    """Make an empty index that no other tag can share. The registry accepts it without any blob.

    It carries the digests that its tag stood for, so that a delete that was cut short can be finished.
    """
    content = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [],
        "annotations": {_PLACEHOLDER: str(uuid.uuid4()), _REPLACES: " ".join(replaces)},
    }
    return RemoteManifest(OCI_INDEX, json.dumps(content).encode())
