"""What is in an image, read from its manifests and their configuration. No I/O.

OCI image specification 1.1 ("image configuration", "image index"), docker image manifest version 2 schema 2.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sysreg_cli.reference import is_digest
from sysreg_cli.registry.manifests import RemoteManifest
from sysreg_cli.v1.images import Layer, Platform

_CREATED = "org.opencontainers.image.created"
# buildx gives it to what is no image: attestations
_NO_PLATFORM = "unknown/unknown"

#: Returns the manifest of a digest, or None if the registry does not have it, or cannot read it.
ReadManifest = Callable[[str], RemoteManifest | None]
#: Returns the bytes of the configuration with a digest, or None if they are not known.
ReadConfiguration = Callable[[str], bytes | None]


@dataclass(frozen=True, slots=True)
class Contents:
    """What an image has in it. ``size`` is in bytes, each blob once; None if a manifest does not tell it.

    ``created`` and ``labels`` are None if no configuration could be read.
    """

    platforms: tuple[Platform, ...]
    layers: tuple[Layer, ...]
    size: int | None
    created: str | None
    labels: Mapping[str, str] | None


def read_contents(root: RemoteManifest, manifest: ReadManifest, configuration: ReadConfiguration) -> Contents:
    """Read an image from the manifest ``root`` through indexes in indexes."""
    platforms: dict[str, Platform] = {}
    blobs: dict[str, int] = {}
    layers: dict[str, Layer] = {}
    configurations: list[dict[str, Any]] = []
    named = {root.digest: ""}  # each manifest of the tree with the platform that its index gives it
    waiting = [root.digest]
    for digest in waiting:
        part = root if digest == root.digest else manifest(digest)
        if part is None:
            platforms[digest] = Platform(named[digest], digest, stored=False)
            continue
        blobs |= part.blobs
        for child, name in _children(part):
            if child not in named:
                named[child] = name
                waiting.append(child)
        if not part.children:
            layers |= {layer.digest: layer for layer in _layers(part)}
            config = _configuration(part, configuration)
            configurations += [config] if config is not None else []
            name = named[digest] or _platform(config or {})
            platforms[digest] = Platform(name, digest, stored=True)
    shown = tuple(it for it in platforms.values() if it.name and it.name != _NO_PLATFORM)
    size = None if not all(blobs.values()) else sum(blobs.values())
    return Contents(shown, tuple(layers.values()), size, *_described(root, configurations))


def _children(index: RemoteManifest) -> list[tuple[str, str]]:
    """Return the manifests that an index names, each with its platform, "" if the index does not tell."""
    named = {
        str(entry.get("digest")): _platform(entry.get("platform"))
        for entry in _list(index.document.get("manifests"))
        if isinstance(entry, dict)
    }
    return [(digest, named.get(digest, "")) for digest in index.children]


def _layers(image: RemoteManifest) -> list[Layer]:
    entries = _list(image.document.get("layers"))
    return [
        Layer(digest, size if isinstance(size := entry.get("size"), int) else 0)
        for entry in entries
        if isinstance(entry, dict) and is_digest(digest := str(entry.get("digest")))
    ]


def _configuration(image: RemoteManifest, read: ReadConfiguration) -> dict[str, Any] | None:
    descriptor = image.document.get("config")
    digest = str(descriptor.get("digest")) if isinstance(descriptor, dict) else ""
    data = read(digest) if is_digest(digest) else None
    if data is None:
        return None
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _described(
    root: RemoteManifest, configurations: list[dict[str, Any]]
) -> tuple[str | None, Mapping[str, str] | None]:
    """Return when the image was made, and its labels: those of its index, or else of its platforms."""
    annotations = _texts(root.document.get("annotations")) if root.children else {}
    labels: dict[str, str] = {}
    for configuration in configurations:
        labels |= _texts(_mapping(configuration.get("config")).get("Labels"))
    made = [text for it in configurations if (text := str(it.get("created") or ""))]
    created = annotations.get(_CREATED) or max(made, default="")
    known = bool(configurations or annotations)
    return (created or None), ({**labels, **annotations} if known else None)


def _platform(value: object) -> str:
    """Return os/architecture, and /variant if there is one."""
    platform = _mapping(value)
    parts = [str(platform.get(key) or "") for key in ("os", "architecture", "variant")]
    return "/".join(filter(None, parts)) if parts[1] else ""


def _texts(value: object) -> dict[str, str]:
    return {str(key): str(text) for key, text in _mapping(value).items()}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
