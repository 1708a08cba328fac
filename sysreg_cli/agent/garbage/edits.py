"""The few changes that collections make in the storage themselves; blobs are deleted by the registry's
collector.

Made under the write lock only, on the filesystem driver only, and with the rights of the storage's owner.
Each may be interrupted at any point, and done again. Paths as in ``store``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from sysreg_cli.agent.garbage.ownership import as_owner
from sysreg_cli.agent.garbage.store import LAYOUT, blob_path

# A repository of our own: one component without an owner, so that only administrators could reach it.
PIN_REPOSITORY = "sysreg-garbage-collection"

# What belongs to a repository itself; everything else in its directory is nested.
_OWN = ("_uploads", "_manifests", "_layers")
_MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"


def repository(root: Path, name: str) -> Path:
    return root / LAYOUT / "repositories" / name


def is_repository(root: Path, name: str) -> bool:
    """Whether the repository itself is there, and not only one that is nested in it."""
    return any((repository(root, name) / own).is_dir() for own in _OWN)


def revision(root: Path, name: str, digest: str) -> Path:
    """The link by which a repository has a manifest."""
    return repository(root, name) / "_manifests/revisions" / digest.replace(":", "/") / "link"


def unlink_manifests(root: Path, digests: Mapping[str, Iterable[str]]) -> None:
    """Unlink manifests from their repositories, as a delete by digest would. Raises OSError."""
    with as_owner(root):
        for name, gone in digests.items():
            tags = _directories(repository(root, name) / "_manifests/tags")
            for digest in gone:
                link = revision(root, name, digest)
                with contextlib.suppress(FileNotFoundError):
                    link.unlink()
                    link.parent.rmdir()
                for tag in tags:
                    shutil.rmtree(tag / "index" / digest.replace(":", "/"), ignore_errors=True)


def remove_repositories(root: Path, names: Iterable[str]) -> None:
    """Remove repositories that hold nothing, and the directories that were there for them alone; never a
    nested repository. Raises OSError.
    """
    with as_owner(root):
        _remove_repositories(root, names)


def _remove_repositories(root: Path, names: Iterable[str]) -> None:
    top = root / LAYOUT / "repositories"
    # Nested first, so that what they leave empty goes as well.
    for name in sorted(names, reverse=True):
        path = top / name
        for own in _OWN:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(path / own)
        for directory in [path, *path.parents]:
            if directory == top:
                break
            try:
                directory.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                break  # not empty: something is nested here


def write_pin(root: Path, digests: Mapping[str, int]) -> None:
    """Refer to blobs (digest to size) from a manifest of our own, so that the collector keeps them.

    Raises OSError. ``remove_pins`` undoes it, also if this was interrupted.
    """
    pinned = [
        {"mediaType": "application/octet-stream", "digest": digest, "size": size}
        for digest, size in sorted(digests.items())
    ]
    document = {"schemaVersion": 2, "mediaType": _MEDIA_TYPE, "config": pinned[0], "layers": pinned}
    data = json.dumps(document).encode()
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    base = root / LAYOUT
    pins = repository(root, PIN_REPOSITORY)
    # The collector knows a repository by its _layers. The link comes before the blob, so that an interrupted
    # pin is found by its link; the collector passes over a link without a blob.
    with as_owner(root):
        _make_directory(pins / "_layers")
        _write(revision(root, PIN_REPOSITORY, digest), digest.encode())
        _write(Path(blob_path(str(base / "blobs"), digest)) / "data", data)


def remove_blob(root: Path, digest: str) -> None:
    """Remove a blob as the collector does. Raises OSError."""
    with as_owner(root):
        shutil.rmtree(blob_path(str(root / LAYOUT / "blobs"), digest))


def remove_pins(root: Path) -> bool:
    """Remove whatever ``write_pin`` left, now or in a former life; whether there was any. Raises OSError."""
    base = root / LAYOUT
    pins = repository(root, PIN_REPOSITORY)
    if not pins.is_dir():
        return False
    with as_owner(root):
        for algorithm in _directories(pins / "_manifests/revisions"):
            for pin in _directories(algorithm):
                path = blob_path(str(base / "blobs"), f"{algorithm.name}:{pin.name}")
                with contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(path)
        _remove_repositories(root, [PIN_REPOSITORY])
    return True


def _directories(path: Path) -> list[Path]:
    try:
        return [entry for entry in path.iterdir() if entry.is_dir()]
    except FileNotFoundError:
        return []


def _make_directory(path: Path) -> None:
    # modes for the registry's group and for backups, whatever the agent's umask
    if not path.parent.exists():
        _make_directory(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir()
        path.chmod(0o755)


def _write(path: Path, data: bytes) -> None:
    _make_directory(path.parent)
    path.write_bytes(data)
    path.chmod(0o644)
