"""Manifests as the registry stores them, and the placeholder manifest that deletes a tag. No I/O.

Media types: OCI image specification 1.1, docker image manifest version 2 schema 2. Distribution 2 may also
hold docker's schema 1, which is signed. It stores the manifest without the signatures, takes the digest of
that, and signs it anew for each response.
"""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from sysreg_cli.reference import is_digest, is_tag

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
#: in the content of each placeholder, and hardly in any other manifest
PLACEHOLDER_MARK = _PLACEHOLDER.encode()
_REPLACES = "org.starlingx.sysreg.releases"
_DELETED_BY = "org.starlingx.sysreg.deleted-by"
_DELETED_AT = "org.starlingx.sysreg.deleted-at"
_FORMAT = "org.starlingx.sysreg.format"
_KNOWN_FORMAT = 1


def digest_of(content: bytes) -> str:
    """Return the digest by which the registry stores a blob."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True, slots=True)
class UnreadableManifest:
    """A manifest that the registry cannot read: its file is empty, cut short, or another one's.

    ``digest`` is empty if the registry does not tell it, as 2.8 does not for a tag.
    """

    digest: str = ""

    @property
    def blobs(self) -> dict[str, int]:
        """What it names is not known."""
        return {}


@dataclass(frozen=True, slots=True)
class DeleteRecord:
    """What a placeholder says of its delete: ``tags`` maps each tag to what it stood for, the root first.

    ``at`` is in seconds since the epoch, None if it does not say. Whoever may push can write anything here.
    """

    tags: Mapping[str, tuple[str, ...]]
    by: str = ""
    at: float | None = None


@dataclass(frozen=True)
class RemoteManifest:
    """One manifest, byte for byte as the registry sent it."""

    media_type: str
    content: bytes

    @cached_property
    def digest(self) -> str:
        """The digest by which the registry stores it: of schema 1 that of the content without signatures."""
        content = self.content
        if self.media_type.startswith(_SCHEMA_1):
            content = _without_signatures(content)
        return digest_of(content)

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
        """Digest to bytes of itself and of the blobs that it names, as it names them; 0: it names no size."""
        blobs = {self.digest: len(self.content)}
        blobs |= {entry["blobSum"]: 0 for entry in self._entries("fsLayers", "blobSum")}  # of schema 1
        for entry in (*self._entries("config"), *self._entries("layers"), *self._entries("manifests")):
            size = entry.get("size")
            if isinstance(size, int) and size >= 0 and entry["digest"] not in self.children:
                blobs[entry["digest"]] = size
        return blobs

    @cached_property
    def is_placeholder(self) -> bool:
        return _PLACEHOLDER in self._annotations and not self.document.get("manifests")

    def replaces(self, tag: str) -> tuple[str, ...]:
        """Of a placeholder: return the manifests that ``tag`` stood for, the root first. Of others: none."""
        if not self.is_placeholder:
            return ()
        # Older versions moved one image at a time, and wrote one list.
        digests = self._annotations.get(f"{_REPLACES}.{tag}", self._annotations.get(_REPLACES, ""))
        return tuple(digest for digest in str(digests).split() if is_digest(digest))

    @property
    def delete_record(self) -> DeleteRecord | None:
        """The record of the delete that made this placeholder. None if it is none, or has a later format."""
        notes = self._annotations
        if not self.is_placeholder or not _is_known(notes.get(_FORMAT)):
            return None
        names = [key.removeprefix(f"{_REPLACES}.") for key in notes if key.startswith(f"{_REPLACES}.")]
        tags = {tag: self.replaces(tag) for tag in names if is_tag(tag)}
        by = notes.get(_DELETED_BY)
        return DeleteRecord(
            {tag: digests for tag, digests in tags.items() if digests},
            by if isinstance(by, str) else "",
            _seconds(notes.get(_DELETED_AT)),
        )

    def _digests(self, accepts: Callable[[str], bool]) -> tuple[str, ...]:
        entries = self._entries("manifests")
        return tuple(dict.fromkeys(e["digest"] for e in entries if accepts(str(e.get("mediaType") or ""))))

    def _entries(self, key: str, digest: str = "digest") -> list[dict[str, Any]]:
        """Return the descriptors under ``key``, one or a list of them, that have a digest."""
        value = self.document.get(key)
        return [
            entry
            for entry in (value if isinstance(value, list) else [value])
            if isinstance(entry, dict) and isinstance(entry.get(digest), str) and is_digest(entry[digest])
        ]

    @cached_property
    def _annotations(self) -> dict[str, Any]:
        annotations = self.document.get("annotations")
        return annotations if isinstance(annotations, dict) else {}

    @cached_property
    def document(self) -> dict[str, Any]:
        """The parsed content; empty if it is no JSON object."""
        try:
            data = json.loads(self.content)
        except (ValueError, RecursionError):
            return {}
        return data if isinstance(data, dict) else {}


def media_type_of(content: bytes) -> str:
    """Return the media type with which the registry serves a stored manifest."""
    document = RemoteManifest("", content).document
    if document.get("schemaVersion") == 1:
        return f"{_SCHEMA_1}prettyjws"
    return str(document.get("mediaType") or (OCI_INDEX if "manifests" in document else OCI_MANIFEST))


def placeholder(replaces: Mapping[str, Sequence[str]], *, by: str = "") -> RemoteManifest:
    """Make an empty index that no other tag can share. The registry accepts it without any blob.

    For each tag that is moved to it, it carries the digests that the tag stood for, so that a delete that was
    cut short can be finished. After the delete it is the record by which the tags can be restored. ``by`` is
    the user who deletes.
    """
    annotations = {f"{_REPLACES}.{tag}": " ".join(digests) for tag, digests in replaces.items()}
    annotations |= {_FORMAT: str(_KNOWN_FORMAT), _DELETED_AT: datetime.now(UTC).isoformat()}
    annotations |= {_DELETED_BY: by} if by else {}
    content = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [],
        "annotations": {_PLACEHOLDER: str(uuid.uuid4()), **annotations},
    }
    return RemoteManifest(OCI_INDEX, json.dumps(content).encode())


def _is_known(version: object) -> bool:
    """Whether a record has a format that can be read. Older versions of sysreg wrote none."""
    return version is None or version == str(_KNOWN_FORMAT)


def _seconds(text: object) -> float | None:
    try:
        seconds = datetime.fromisoformat(text).timestamp() if isinstance(text, str) else -1.0
    except (ValueError, OverflowError):
        return None
    return seconds if seconds >= 0 else None


def _without_signatures(content: bytes) -> bytes:
    """Return what the signatures of a manifest of schema 1 sign (JSON web signature, as libtrust writes it).

    Return ``content`` itself if it is not signed.
    """
    try:
        header = json.loads(_decode(json.loads(content)["signatures"][0]["protected"]))
        return content[: int(header["formatLength"])] + _decode(header["formatTail"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return content


def _decode(text: str) -> bytes:
    """Decode base64url without padding (RFC 7515)."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
