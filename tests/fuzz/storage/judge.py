"""Which tags can be pulled, as a client sees it. Nothing of sysreg_cli decides here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

#: sends a GET with an Accept header; returns the status and the body
Get = Callable[[str, str], tuple[int, bytes]]

INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
#: the media types of manifests; an index may also name blobs
MANIFESTS = (
    *INDEXES,
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_ACCEPT = ", ".join(MANIFESTS)


class Judge:
    """Reads each manifest and blob once: make a new one after each change.

    ``blobs`` says which blobs can be pulled, as far as that is known: a delete changes no blob.
    """

    def __init__(self, get: Get, blobs: dict[str, bool] | None = None) -> None:
        self._get = get
        self._manifests: dict[str, bool] = {}
        self._blobs: dict[str, bool] = {} if blobs is None else blobs

    def listed(self, repository: str) -> set[str]:
        status, body = self._get(f"/v2/{repository}/tags/list", "")
        return set(json.loads(body)["tags"] or ()) if status == 200 else set()

    def pulls(self, repository: str, tag: str) -> bool:
        """Whether a client gets the whole image, byte for byte."""
        return self._manifest(repository, tag)

    def _manifest(self, repository: str, reference: str) -> bool:
        path = f"/v2/{repository}/manifests/{reference}"
        if path not in self._manifests:
            try:
                self._manifests[path] = self._read_manifest(repository, reference, path)
            except (ValueError, LookupError, TypeError):  # no manifest that a client understands
                self._manifests[path] = False
        return self._manifests[path]

    def _read_manifest(self, repository: str, reference: str, path: str) -> bool:
        status, body = self._get(path, _ACCEPT)
        if status != 200:
            return False
        document = json.loads(body)
        if document["schemaVersion"] == 1:
            return all(self._blob(repository, layer["blobSum"]) for layer in document["fsLayers"])
        digest = _digest(body)
        if reference not in (digest, "") and ":" in reference:
            return False
        if ":" not in reference and not self._manifest(repository, digest):
            return False  # a client checks the content against the digest that the registry names
        if "manifests" in document:
            return all(
                self._manifest(repository, entry["digest"])
                if entry.get("mediaType") in MANIFESTS
                else self._blob(repository, entry["digest"])
                for entry in document["manifests"]
            )
        entries = [document["config"], *document["layers"]]
        return all(self._blob(repository, entry["digest"]) for entry in entries)

    def _blob(self, repository: str, digest: str) -> bool:
        path = f"/v2/{repository}/blobs/{digest}"
        if path not in self._blobs:
            status, body = self._get(path, "")
            self._blobs[path] = status == 200 and _digest(body) == digest
        return self._blobs[path]


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
