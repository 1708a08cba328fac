"""The storage of the example in docs/space.rst: the builds of six teams, 300 images."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

from tests.unit.agent.storage.builder import OCI_MANIFEST, Storage

_MB = 1_000_000
_TEAMS = ("billing", "maps", "media", "mobile", "search", "web")
_IMAGES = 50
#: when the first image was pushed, in seconds since the epoch: 2026-10-05T06:00:00Z
_FIRST = 1_791_180_000
_DAY = 86_400


class Example(Storage):
    """Its layers are sparse files: they have the sizes of real ones, and no content."""

    def build(self) -> None:
        for number in range(_IMAGES):
            for team in _TEAMS:
                self._releases(f"{team}/service{number:02}", number, team)
        old = self._image("maps/service07", {"base": 31 * _MB, "tiles": 840 * _MB}, "2025-08")
        self.delete("maps/service07", old)
        self._upload("media/service12", 312 * _MB)
        (self.tag("web/service31", "1.1")).write_bytes(b"")

    def _releases(self, repository: str, number: int, team: str) -> None:
        """Push three releases on top of the team's base; ``latest`` follows them."""
        own = (2 + number % 7) * _MB
        for release in range(3):
            layers = {f"base of {team}": 48 * _MB, f"{repository} libraries": 11 * _MB}
            layers[f"{repository} {release}"] = own + release * 100_000
            if repository == "media/service12":
                layers[f"models {release}"] = 720 * _MB
            tags = (f"1.{release}", "latest") if release else ("1.0",)
            self._image(repository, layers, *tags)
            self._set_time(repository, tags, _FIRST + (7 * release + number % 5) * _DAY)
        if number % 10 == 3:
            self._builds(repository, layers)

    def _builds(self, repository: str, layers: dict[str, int]) -> None:
        """Push two more builds as ``latest``: the second leaves the first without a tag."""
        for build in range(2):
            self._image(repository, {**layers, f"{repository} build {build}": 9 * _MB}, "latest")
            self._set_time(repository, ("latest",), _FIRST + (15 + build) * _DAY)

    def _image(self, repository: str, layers: dict[str, int], *tags: str) -> str:
        config = json.dumps({"architecture": "amd64", "os": "linux", "of": list(layers)}).encode()
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {
                **self.descriptor(self.upload(repository, config)),
                "mediaType": "application/vnd.oci.image.config.v1+json",
            },
            "layers": [self._layer(repository, name, size) for name, size in layers.items()],
        }
        return self.put(repository, document, *tags)

    def _layer(self, repository: str, name: str, size: int) -> dict[str, str | int]:
        digest = "sha256:" + hashlib.sha256(name.encode()).hexdigest()
        path = self.path(digest)
        if not path.exists():
            self._write_hole(path, size)
        self._write(self._link(repository, "_layers", digest), digest.encode())
        return {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": size}

    def _upload(self, repository: str, size: int) -> None:
        upload = self.repositories / repository / "_uploads/5c1d2b9e-0a67-4f55-9d55-6c1f9bb7b6de"
        self._write_hole(upload / "data", size)

    def _write_hole(self, path: Path, size: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.truncate(path, size)
        then = time.time() - self.age
        os.utime(path, (then, then))

    def _set_time(self, repository: str, tags: tuple[str, ...], then: float) -> None:
        for tag in tags:
            os.utime(self.tag(repository, tag), (then, then))


def build(root: Path) -> None:
    Example(root).build()
