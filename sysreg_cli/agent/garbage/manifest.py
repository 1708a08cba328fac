"""Parses manifests, as far as garbage collection needs them.

Understands the OCI image specification 1.1 (an index in an index, ``subject``), docker's manifest v2 schema 2
and manifest list, and schema 1, which distribution 2.8 still stores.
"""

from __future__ import annotations

import json
import sys
from typing import Any, NamedTuple

from sysreg_cli.reference import is_digest
from sysreg_cli.registry.manifests import MANIFEST_TYPES

# The registry accepts no larger manifest (distribution 2.8: maxManifestBodySize).
MAX_MANIFEST = 4 * 1024 * 1024

# json.loads also detects the encoding, which costs a tenth of all marking.
_decode = json.JSONDecoder().decode


class StoredManifest(NamedTuple):
    """The digests that a manifest refers to.

    ``children`` are manifests, ``foreign`` are layers that clients download from elsewhere. Digests are
    interned, and this is a tuple, because a storage has tens of thousands of manifests.
    """

    children: tuple[str, ...] = ()
    blobs: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    subject: str = ""

    @property
    def references(self) -> tuple[str, ...]:
        """What the registry's collector keeps for this manifest."""
        return self.children + self.blobs + self.foreign


def parse(data: bytes) -> StoredManifest | None:
    """Parse a manifest. Returns None for data that distribution 2.8 does not store as a manifest."""
    try:
        document = _decode(data.decode())
        return _parse(document) if isinstance(document, dict) else None
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return None


def _parse(document: dict[str, Any]) -> StoredManifest | None:
    version = document.get("schemaVersion")
    if version == 1 and "fsLayers" in document:
        return StoredManifest(blobs=tuple(_digest(layer, "blobSum") for layer in document["fsLayers"]))
    if version != 2:
        return None
    subject = document.get("subject")
    subject_digest = _digest(subject) if subject else ""
    blobs: list[str] = []
    if "manifests" in document:
        children: list[str] = []
        for descriptor in document["manifests"] or ():
            # The build cache of buildx is an index that names layers.
            media_type = descriptor.get("mediaType")
            is_manifest = media_type is None or media_type in MANIFEST_TYPES
            (children if is_manifest else blobs).append(_digest(descriptor))
        return StoredManifest(tuple(children), tuple(blobs), subject=subject_digest)
    if "config" not in document:
        return None
    blobs.append(_digest(document["config"]))
    foreign: list[str] = []
    for layer in document.get("layers") or ():
        (foreign if layer.get("urls") else blobs).append(_digest(layer))
    return StoredManifest((), tuple(blobs), tuple(foreign), subject_digest)


def _digest(descriptor: dict[str, Any], key: str = "digest") -> str:
    digest = descriptor[key]
    if not is_digest(digest):
        raise ValueError(digest)
    return sys.intern(digest)
