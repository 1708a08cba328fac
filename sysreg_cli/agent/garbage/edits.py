"""Changes the storage: unlinks manifests, removes repositories, pins blobs. See ``layout`` for the paths.

The caller holds the write lock. Each function has only the rights of the storage's owner, may be interrupted
at any point and repeated, and raises OSError. ``check`` is called before each step, and ends the work by
raising.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from sysreg_cli.agent.storage import layout
from sysreg_cli.agent.storage.files import entries_of, go_on, is_directory, remove_tree
from sysreg_cli.host.ownership import as_owner
from sysreg_cli.registry.manifests import OCI_MANIFEST


def unlink_manifests(
    root: Path, manifests: Mapping[str, Iterable[str]], check: Callable[[], None] = go_on
) -> None:
    """Unlink manifests (repository to digests) as a delete by digest does."""
    with as_owner(root):
        for name, digests in manifests.items():
            for digest in digests:
                remove_tree(layout.revision(root, name, digest).parent, check)
            gone = {layout.digest_path(digest) for digest in digests}
            for tag in _directories(layout.repository(root, name) / "_manifests/tags"):
                for algorithm in _directories(tag / "index"):
                    for former in _directories(algorithm):
                        if f"{algorithm.name}/{former.name}" in gone:
                            with contextlib.suppress(OSError):  # a tag's history: nothing needs it
                                remove_tree(former, check)


def remove_blobs(root: Path, digests: Iterable[str], check: Callable[[], None] = go_on) -> None:
    """Delete blobs as the collector does."""
    with as_owner(root):
        for digest in digests:
            remove_tree(layout.data(root, digest).parent, check)


def remove_repositories(root: Path, names: Iterable[str], check: Callable[[], None] = go_on) -> None:
    """Remove repositories, and directories that become empty thereby. Nested repositories stay."""
    top = layout.repositories(root)
    with as_owner(root):
        # nested ones first, so that the directory around them may become empty
        for name in sorted(names, reverse=True):
            for own in layout.OWN:
                remove_tree(top / name / own, check)
            for directory in (top / part for part in [Path(name), *Path(name).parents][:-1]):
                try:
                    directory.rmdir()
                except FileNotFoundError:
                    continue
                except OSError:
                    break  # not empty


def pin_of(blobs: Mapping[str, int]) -> tuple[str, bytes]:
    """Return the digest and the content of the manifest that ``write_pin`` writes."""
    descriptors = [
        {"mediaType": "application/octet-stream", "digest": digest, "size": size}
        for digest, size in sorted(blobs.items())
    ]
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptors[0],
        "layers": descriptors,
    }
    data = json.dumps(document).encode()
    return "sha256:" + hashlib.sha256(data).hexdigest(), data


def write_pin(root: Path, blobs: Mapping[str, int]) -> None:
    """Refer to blobs (digest to size) from a temporary manifest, so that the collector keeps them."""
    digest, data = pin_of(blobs)
    with as_owner(root):
        # The collector sees only a repository with _layers.
        (layout.repository(root, layout.PIN_REPOSITORY) / "_layers").mkdir(parents=True, exist_ok=True)
        # First the link: remove_pins finds the blob by it, and the collector skips a link without a blob.
        _write(layout.revision(root, layout.PIN_REPOSITORY, digest), digest.encode())
        _write(layout.data(root, digest), data)


def remove_pins(root: Path) -> bool:
    """Remove what ``write_pin`` wrote, also in a killed process. Returns whether there was anything."""
    pins = layout.repository(root, layout.PIN_REPOSITORY)
    if not pins.is_dir():
        return False
    with as_owner(root):
        for algorithm in _directories(pins / "_manifests/revisions"):
            for pin in _directories(algorithm):
                remove_tree(layout.data(root, f"{algorithm.name}:{pin.name}").parent)
    remove_repositories(root, [layout.PIN_REPOSITORY])
    return True


def _directories(path: Path) -> list[Path]:
    return [Path(entry.path) for entry in entries_of(str(path)) if is_directory(entry)]


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
