"""Parses manifests, as far as garbage collection needs them.

Understands the OCI image specification 1.1 (an index in an index, ``subject``), docker's manifest v2 schema 2
and manifest list, and schema 1, which distribution 2.8 still stores.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any, NamedTuple

from sysreg_cli.agent.storage.files import read_file
from sysreg_cli.agent.storage.layout import data_path
from sysreg_cli.agent.storage.readers import Check
from sysreg_cli.reference import is_digest
from sysreg_cli.registry.manifests import MANIFEST_TYPES

# The registry accepts no larger manifest (distribution 2.8: maxManifestBodySize).
MAX_MANIFEST = 4 * 1024 * 1024

# json.loads also detects the encoding, which costs a tenth of all marking. JSONDecoder.decode looks for white
# space with regular expressions, which takes a quarter of its time.
_decode = json.JSONDecoder().raw_decode
_WHITE_SPACE = " \t\n\r"
#: how a manifest may begin
_JSON = {b"{", b" ", b"\n", b"\r", b"\t"}


class StoredManifest(NamedTuple):
    """The digests that a manifest refers to.

    ``children`` are manifests, ``foreign`` are layers that clients download from elsewhere. ``sizes`` are
    those of ``blobs`` in bytes, -1 if the manifest names none. The process that parses it interns the
    digests, and this is a tuple, because a storage has tens of thousands of manifests.
    """

    children: tuple[str, ...] = ()
    blobs: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    foreign: tuple[str, ...] = ()
    subject: str = ""

    @property
    def references(self) -> tuple[str, ...]:
        """What the registry's collector keeps for this manifest."""
        return self.children + self.blobs + self.foreign


#: the manifest to be read: its digest, and the size of its blob in bytes (a tuple is pickled in no time)
WantedManifest = tuple[str, int]


class ManifestReader:
    """Reads manifests from the directory ``blobs``, also in another process."""

    def __init__(self, blobs: str) -> None:
        self._blobs = blobs

    def read(self, wanted: WantedManifest, check: Check) -> StoredManifest | None:
        """Return None if the manifest is missing, damaged, too large, or none. Raises OSError."""
        data = self.content(wanted, check)
        return parse(data) if data else None

    def content(self, wanted: WantedManifest, check: Check) -> bytes:
        """Return the content, empty if it is missing, damaged, too large or no JSON. Raises OSError."""
        digest, size = wanted
        if not 0 < size <= MAX_MANIFEST:
            return b""
        check()
        data = read_file(data_path(self._blobs, digest), size) or b""
        return data if data[:1] in _JSON and is_content_of(digest, data) else b""


def is_content_of(digest: str, data: bytes) -> bool:
    """Whether ``data`` is what ``digest`` names, and not damaged."""
    algorithm, _, digits = digest.partition(":")
    make = hashlib.sha256 if algorithm == "sha256" else hashlib.sha512
    return make(data).hexdigest() == digits


def parse(data: bytes) -> StoredManifest | None:
    """Parse a manifest. Returns None for data that distribution 2.8 does not store as a manifest."""
    try:
        text = data.decode().strip(_WHITE_SPACE)
        document, end = _decode(text)
        return _parse(document) if isinstance(document, dict) and end == len(text) else None
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return None


def _parse(document: dict[str, Any]) -> StoredManifest | None:
    version = document.get("schemaVersion")
    if version == 1 and "fsLayers" in document:
        layers = tuple(_digest(layer, "blobSum") for layer in document["fsLayers"])
        return StoredManifest(blobs=layers, sizes=(-1,) * len(layers))
    if version != 2:
        return None
    subject = document.get("subject")
    subject_digest = _digest(subject) if subject else ""
    blobs: list[dict[str, Any]] = []
    if "manifests" in document:
        children: list[str] = []
        for descriptor in document["manifests"] or ():
            # The build cache of buildx is an index that names layers.
            media_type = descriptor.get("mediaType")
            if media_type is None or media_type in MANIFEST_TYPES:
                children.append(_digest(descriptor))
            else:
                blobs.append(descriptor)
        return StoredManifest(tuple(children), *_blobs(blobs), subject=subject_digest)
    if "config" not in document:
        return None
    blobs.append(document["config"])
    foreign: list[str] = []
    for layer in document.get("layers") or ():
        if layer.get("urls"):
            foreign.append(_digest(layer))
        else:
            blobs.append(layer)
    return StoredManifest((), *_blobs(blobs), tuple(foreign), subject_digest)


def _blobs(descriptors: list[dict[str, Any]]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    sizes = [size if isinstance(size := it.get("size"), int) else -1 for it in descriptors]
    return tuple(map(_digest, descriptors)), tuple(sizes)


def _digest(descriptor: dict[str, Any], key: str = "digest") -> str:
    digest = descriptor[key]
    if not is_digest(digest):
        raise ValueError(digest)
    return sys.intern(digest)
