"""Small images made on the spot: single platform, OCI indexes, docker manifest lists (OCI image-spec 1.1).

Layers are real gzipped tars of one file of random bytes, so that real clients can unpack them.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
MANIFEST_TYPES = (OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST)

_OCI_LAYER = ("application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip")
_DOCKER_LAYER = (
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
)


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True)
class Image:
    """A manifest with what it refers to: blobs (config and layers), or the images of an index."""

    manifest: bytes
    media_type: str
    blobs: tuple[bytes, ...] = ()
    children: tuple[Image, ...] = ()
    platform: dict[str, str] = field(default_factory=dict, compare=False)
    #: what the registry stores of a signed manifest
    unsigned: bytes = b""

    @property
    def digest(self) -> str:
        return digest_of(self.unsigned or self.manifest)

    @property
    def size(self) -> int:
        """Bytes of every blob and manifest, the children's included."""
        return len(self.manifest) + sum(map(len, self.blobs)) + sum(child.size for child in self.children)

    def descriptor(self) -> dict[str, Any]:
        base = {"mediaType": self.media_type, "digest": self.digest, "size": len(self.manifest)}
        return {**base, "platform": self.platform} if self.platform else base

    def write_layout(self, directory: Path, tag: str = "latest") -> str:
        """Write an OCI image layout; returns the reference skopeo takes: ``oci:DIRECTORY:TAG``."""
        blobs = directory / "blobs" / "sha256"
        blobs.mkdir(parents=True, exist_ok=True)
        for image in (self, *self.children):
            for data in (image.manifest, *image.blobs):
                (blobs / hashlib.sha256(data).hexdigest()).write_bytes(data)
        (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        entry = {**self.descriptor(), "annotations": {"org.opencontainers.image.ref.name": tag}}
        (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
        return f"oci:{directory}:{tag}"


def single(
    size: int = 1000,
    *,
    layers: int = 1,
    seed: object = None,
    docker: bool = False,
    architecture: str = "amd64",
    platform: bool = False,
) -> Image:
    """An image of one platform with ``layers`` layers of ``size`` random bytes each.

    The same ``seed`` gives the same bytes; None, the default, new ones each time. ``docker``: docker's media
    types. ``platform``: name the platform in the descriptor, as the images of an index do.
    """
    source = random.Random(seed if seed is None else repr((seed, size, layers, architecture)))
    tars = [_tar(source.randbytes(size), number) for number in range(layers)]
    packed = [gzip.compress(tar, compresslevel=1, mtime=0) for tar in tars]
    config = _json(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
        }
    )
    config_type, layer_type = _DOCKER_LAYER if docker else _OCI_LAYER
    media_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": _descriptor(config_type, config),
            "layers": [_descriptor(layer_type, data) for data in packed],
        }
    )
    named = {"architecture": architecture, "os": "linux"} if platform else {}
    return Image(manifest, media_type, (config, *packed), platform=named)


def index(*children: Image, docker: bool = False, annotations: dict[str, str] | None = None) -> Image:
    """An OCI index, or with ``docker`` a docker manifest list, over ``children``."""
    media_type = DOCKER_LIST if docker else OCI_INDEX
    body: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [child.descriptor() for child in children],
    }
    if annotations:
        body["annotations"] = annotations
    return Image(_json(body), media_type, children=children)


def multi_arch(
    size: int = 1000,
    *,
    seed: object = None,
    docker: bool = False,
    architectures: Sequence[str] = ("amd64", "arm64"),
) -> Image:
    """An index (or a docker manifest list) over one image per architecture."""
    children = [
        single(size, seed=seed, docker=docker, architecture=architecture, platform=True)
        for architecture in architectures
    ]
    return index(*children, docker=docker)


def schema_1(size: int = 1000, *, name: str = "old", tag: str = "v1") -> Image:
    """Make an image in docker's old format, signed as libtrust does. Its digest is that of the unsigned form.

    2.8 stores it without the signatures, and signs it anew for each response.
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256

    layer = gzip.compress(_tar(random.randbytes(size), 0), compresslevel=1, mtime=0)
    body = {
        "schemaVersion": 1,
        "name": name,
        "tag": tag,
        "architecture": "amd64",
        "fsLayers": [{"blobSum": digest_of(layer)}],
        "history": [{"v1Compatibility": json.dumps({"id": "a" * 64, "created": "2015-01-01T00:00:00Z"})}],
    }
    unsigned = json.dumps(body, indent=3).encode()
    head, tail = unsigned[:-2], unsigned[-2:]
    protected = _base64(_json({"formatLength": len(head), "formatTail": _base64(tail)}))
    key = ec.generate_private_key(ec.SECP256R1())
    numbers = key.public_key().public_numbers()
    point = {axis: _base64(getattr(numbers, axis).to_bytes(32, "big")) for axis in ("x", "y")}
    signed = key.sign(f"{protected}.{_base64(unsigned)}".encode(), ec.ECDSA(SHA256()))
    signature = b"".join(number.to_bytes(32, "big") for number in decode_dss_signature(signed))
    block = {
        "header": {"jwk": {"kty": "EC", "crv": "P-256", **point}, "alg": "ES256"},
        "signature": _base64(signature),
        "protected": protected,
    }
    manifest = head + b',\n   "signatures": [' + _json(block) + b"]" + tail
    return Image(manifest, SCHEMA_1, (layer,), unsigned=unsigned)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _tar(content: bytes, number: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(f"content-{number}")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}
