"""A storage before the damage: what a client that has the images can push again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sysreg_cli.reference import ImageReference
from tests.fuzz.storage.judge import INDEXES, MANIFESTS

#: sends a request (method, path, headers, body); returns the status and the header Location
Send = Callable[[str, str, Mapping[str, str], bytes | None], tuple[int, str]]


@dataclass(frozen=True)
class Pristine:
    """The content of all blobs by digest, and what each tag stands for."""

    blobs: Mapping[str, bytes]
    tags: Mapping[ImageReference, str]

    @classmethod
    def read(cls, top: Path) -> Pristine:
        """Read the storage below ``top``, its directory v2."""
        files = (path.read_bytes() for path in top.glob("blobs/sha256/*/*/data"))
        blobs = {"sha256:" + hashlib.sha256(data).hexdigest(): data for data in files}
        tags = {}
        for link in top.glob("repositories/**/_manifests/tags/*/current/link"):
            repository = link.parents[4].relative_to(top / "repositories").as_posix()
            tags[ImageReference(repository, link.parents[1].name)] = link.read_text()
        return cls(blobs, tags)

    def can_be_pushed(self, image: ImageReference) -> bool:
        """Whether the registry takes it: it takes no image of docker's schema 1."""
        return image in self.tags and json.loads(self.blobs[self.tags[image]])["schemaVersion"] == 2

    def push(self, image: ImageReference, send: Send) -> None:
        """Push as docker does: without what the registry says it has. Raises AssertionError if refused."""
        self._push_manifest(image.repository, self.tags[image], image.tag, send)

    def silently_damaged(self, image: ImageReference, top: Path) -> bool:
        """Whether only a pull finds that a layer of ``image`` has another content.

        That is so if its size is right, or is in no manifest: docker's schema 1 names none.
        """
        sized = self.can_be_pushed(image)
        return any(
            _has_other_content(top, digest, self.blobs[digest], sized=sized) for digest in self._layers(image)
        )

    def _layers(self, image: ImageReference) -> set[str]:
        layers: set[str] = set()
        pending = [self.tags[image]]
        while pending:
            document = json.loads(self.blobs[pending.pop()])
            for entry in document.get("manifests", ()):
                (pending.append if entry.get("mediaType") in MANIFESTS else layers.add)(entry["digest"])
            entries = [*([document["config"]] if "config" in document else []), *document.get("layers", ())]
            layers |= {entry["digest"] for entry in entries}
            layers |= {entry["blobSum"] for entry in document.get("fsLayers", ())}
        return layers

    def _push_manifest(self, repository: str, digest: str, reference: str, send: Send) -> None:
        data = self.blobs[digest]
        document = json.loads(data)
        for entry in document.get("manifests", ()):
            if entry.get("mediaType") in MANIFESTS:
                self._push_manifest(repository, entry["digest"], entry["digest"], send)
            else:
                self._push_blob(repository, entry["digest"], send)
        for entry in [document["config"], *document["layers"]] if "config" in document else ():
            self._push_blob(repository, entry["digest"], send)
        kind = document.get("mediaType", INDEXES[0])
        status, _ = send("PUT", f"/v2/{repository}/manifests/{reference}", {"Content-Type": kind}, data)
        assert status == 201, f"PUT of {repository}:{reference} answered {status}"

    def _push_blob(self, repository: str, digest: str, send: Send) -> None:
        if send("HEAD", f"/v2/{repository}/blobs/{digest}", {}, None)[0] == 200:
            return
        status, location = send("POST", f"/v2/{repository}/blobs/uploads/", {}, None)
        assert status == 202, f"the begin of an upload to {repository} answered {status}"
        status, _ = send("PUT", f"{location}&digest={digest}", {}, self.blobs[digest])
        assert status == 201, f"the upload of {digest} to {repository} answered {status}"


def _has_other_content(top: Path, digest: str, data: bytes, *, sized: bool) -> bool:
    digits = digest.partition(":")[2]
    path = top / "blobs/sha256" / digits[:2] / digits / "data"
    if not path.is_file() or path.is_symlink():
        return False
    stored = path.read_bytes()
    return stored != data and (len(stored) == len(data) or not sized)
