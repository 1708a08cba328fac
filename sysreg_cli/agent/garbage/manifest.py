"""What a manifest refers to: the few facts of it that garbage collection needs.

Follows the OCI image specification 1.1 (``subject``, index in index), docker's manifest v2 schema 2 and
manifest list, and schema 1, which distribution 2.8 still stores. ``parse`` never raises: what is no manifest
is None.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any, NamedTuple

# The registry accepts no larger manifest (distribution 2.8: maxManifestBodySize).
MAX_MANIFEST = 4 * 1024 * 1024

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


# Without json.loads' look at the encoding and its options: a tenth of all marking.
_decode = json.JSONDecoder().decode


class Manifest(NamedTuple):
    """Digests a manifest points at. ``foreign`` layers live elsewhere and need not be in this registry.

    A tuple, and with interned digests, because a storage has tens of thousands.
    """

    children: tuple[str, ...] = ()
    blobs: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    subject: str = ""

    @property
    def references(self) -> tuple[str, ...]:
        """What the registry's own collector marks for this manifest."""
        return self.children + self.blobs + self.foreign


def parse(data: bytes) -> Manifest | None:
    """The manifest in ``data``, or None if it is none that distribution 2.8 could have stored as one."""
    try:
        document = _decode(data.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    version = document.get("schemaVersion")
    try:
        if version == 1 and "fsLayers" in document:
            return Manifest(blobs=tuple(_digest(layer, "blobSum") for layer in document["fsLayers"]))
        if version != 2:
            return None
        subject = document.get("subject")
        subject_digest = _digest(subject) if subject else ""
        if "manifests" in document:
            children = tuple(map(_digest, document["manifests"] or ()))
            return Manifest(children=children, subject=subject_digest)
        if "config" not in document:
            return None
        blobs = [_digest(document["config"])]
        foreign: list[str] = []
        for layer in document.get("layers") or ():
            (foreign if layer.get("urls") else blobs).append(_digest(layer))
        return Manifest(blobs=tuple(blobs), foreign=tuple(foreign), subject=subject_digest)
    except (TypeError, KeyError, ValueError, AttributeError):
        return None


def _digest(descriptor: Any, key: str = "digest") -> str:
    digest = descriptor[key]
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ValueError(digest)
    return sys.intern(digest)
