"""The registry's storage as plain values, and the reader for the filesystem driver.

Layout (distribution 2.8, ``registry/storage/paths.go``), below ``<rootdirectory>/docker/registry/v2``::

    blobs/sha256/<2 digits>/<digits>/data
    repositories/<name>/_manifests/revisions/sha256/<digits>/link       a manifest the repository has
    repositories/<name>/_manifests/tags/<tag>/current/link              what the tag points at
    repositories/<name>/_manifests/tags/<tag>/index/sha256/<digits>/link  what it ever pointed at
    repositories/<name>/_layers/sha256/<digits>/link                    a blob the repository has
    repositories/<name>/_uploads/<id>/                                  an upload under way

Repositories nest. The registry's catalog and its collector know a repository by its ``_layers`` alone.
Times are seconds since the epoch. Entries that vanish while they are read are taken as gone.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from sysreg_cli.agent.garbage import manifest
from sysreg_cli.agent.garbage.manifest import Manifest

_DIGEST = re.compile(r"[a-z0-9]+:[0-9a-f]{32,128}")
LAYOUT = "docker/registry/v2"


@dataclass(slots=True)
class Repository:
    """One repository: ``tags`` to digests ("" where the link is broken), and the digests of ``revisions``.

    ``broken`` are revisions whose link doesn't name them: the registry's collector stops at such a link.
    ``enumerable`` says whether the registry's own catalog and collector see the repository at all.
    """

    name: str
    tags: dict[str, str] = field(default_factory=dict)
    revisions: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    uploads: int = 0
    enumerable: bool = True


class Blob(NamedTuple):
    """A blob that is there: its size in bytes, and when it was stored."""

    size: int
    time: float


class Store(Protocol):
    """What marking needs to know of a storage."""

    repositories: dict[str, Repository]
    blobs: dict[str, Blob]

    def manifest(self, digest: str) -> Manifest | None:
        """The manifest in a blob; None if the blob is missing, too large, or no manifest."""

    def revision_time(self, repository: str, digest: str) -> float:
        """When the manifest was last pushed to the repository; 0 if it isn't there."""

    def tagged_time(self, repository: str, digest: str) -> float:
        """When a tag of the repository last began to point at the manifest; 0 if none that exists ever
        did."""

    def layers(self, repository: str) -> Iterator[tuple[str, float]]:
        """The blobs linked in the repository, with the time of the link."""

    def link_times(self, digests: Set[str]) -> dict[str, float]:
        """When each of the blobs was last linked in any repository; those never linked are left out."""


class FilesystemStore:
    """The storage of the ``filesystem`` driver, read directly. A snapshot: taken when made.

    Raises OSError when the storage itself can't be read. A storage nothing was ever pushed to is empty.
    """

    def __init__(self, root: Path, known: dict[str, Manifest | None] | None = None) -> None:
        """``known`` carries manifests over from an earlier snapshot: a digest's content never changes."""
        if not root.is_dir():
            raise NotADirectoryError(f"{root} is not a directory")
        self.root = root / LAYOUT
        self._base = str(self.root / "repositories")
        self._blobs_base = str(self.root / "blobs")
        self.manifests: dict[str, Manifest | None] = {} if known is None else known
        self.repositories: dict[str, Repository] = {}
        self._find_repositories(self._base, "")
        self.blobs: dict[str, Blob] = dict(self._find_blobs())

    # -- lookups ---------------------------------------------------------------------------------------

    def manifest(self, digest: str) -> Manifest | None:
        if digest in self.manifests:
            return self.manifests[digest]
        found = None
        blob = self.blobs.get(digest)
        if blob is not None and blob.size <= manifest.MAX_MANIFEST:
            data = _read_document(blob_path(self._blobs_base, digest) + "/data")
            found = manifest.parse(data) if data else None
        self.manifests[digest] = found
        return found

    def revision_time(self, repository: str, digest: str) -> float:
        return _time(self._path(repository, f"_manifests/revisions/{_split(digest)}/link"))

    def tagged_time(self, repository: str, digest: str) -> float:
        tags = self.repositories[repository].tags
        return max(
            (
                _time(self._path(repository, f"_manifests/tags/{tag}/index/{_split(digest)}/link"))
                for tag in tags
            ),
            default=0.0,
        )

    def layers(self, repository: str) -> Iterator[tuple[str, float]]:
        for algorithm in _entries(self._path(repository, "_layers")):
            for entry in _entries(algorithm.path):
                time = _time(entry.path + "/link")
                if time:
                    yield sys.intern(f"{algorithm.name}:{entry.name}"), time

    def link_times(self, digests: Set[str]) -> dict[str, float]:
        times: dict[str, float] = {}
        for name in self.repositories if digests else ():
            for algorithm in _entries(self._path(name, "_layers")):
                for entry in _entries(algorithm.path):
                    digest = f"{algorithm.name}:{entry.name}"
                    if digest in digests and (time := _time(entry.path + "/link")):
                        times[digest] = max(times.get(digest, 0.0), time)
        return times

    # -- reading ---------------------------------------------------------------------------------------

    def _path(self, repository: str, rest: str) -> str:
        return f"{self._base}/{repository}/{rest}"

    def _find_repositories(self, path: str, name: str) -> None:
        own = set()
        for entry in _entries(path):
            if entry.name.startswith("_"):
                own.add(entry.name)
            elif entry.is_dir():  # symbolic links too, as the registry and its collector do
                self._find_repositories(entry.path, f"{name}/{entry.name}" if name else entry.name)
        if name and own & {"_layers", "_manifests", "_uploads"}:
            self.repositories[name] = self._read_repository(path, name, own)

    def _read_repository(self, path: str, name: str, own: set[str]) -> Repository:
        found = Repository(name, enumerable="_layers" in own)
        if "_manifests" in own:
            for algorithm in _entries(f"{path}/_manifests/revisions"):
                for entry in _entries(algorithm.path):
                    digest = sys.intern(f"{algorithm.name}:{entry.name}")
                    link = _read_link(entry.path + "/link")
                    if link is None:
                        continue  # an unlinked revision: the directory means nothing
                    found.revisions.add(digest)
                    if link != digest:
                        found.broken.add(digest)
            for entry in _entries(f"{path}/_manifests/tags"):
                link = _read_link(entry.path + "/current/link")
                if link is None and not entry.is_dir(follow_symlinks=False):
                    continue
                found.tags[entry.name] = sys.intern(link) if link and _DIGEST.fullmatch(link) else ""
        if "_uploads" in own:
            found.uploads = sum(1 for _ in _entries(f"{path}/_uploads"))
        return found

    def _find_blobs(self) -> Iterator[tuple[str, Blob]]:
        for algorithm in _entries(self._blobs_base):
            for prefix in _entries(algorithm.path):
                # Relative to an open directory: a fifth less than by the whole path, 60,000 times.
                try:
                    directory = os.open(prefix.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                try:
                    for name in os.listdir(directory):  # noqa: PTH208
                        try:
                            status = os.stat(f"{name}/data", dir_fd=directory)
                        except (FileNotFoundError, NotADirectoryError):
                            continue
                        digest = sys.intern(f"{algorithm.name}:{name}")
                        yield digest, Blob(status.st_size, status.st_mtime)
                finally:
                    os.close(directory)


def present(root: Path, digest: str) -> bool:
    """Whether a blob is there at this moment."""
    return Path(blob_path(str(root / LAYOUT / "blobs"), digest), "data").exists()


def blob_path(blobs: str, digest: str) -> str:
    """The directory of a blob below the ``blobs`` directory."""
    algorithm, _, digits = digest.partition(":")
    return f"{blobs}/{algorithm}/{digits[:2]}/{digits}"


def _split(digest: str) -> str:
    return digest.replace(":", "/")


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read_document(path: str) -> bytes:
    """The content of a blob that may be JSON; nothing of one that can't be, as most layers."""
    # os.open and os.read: half the time of open(), and this is called for every manifest of the registry.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    try:
        data = os.read(descriptor, 8192)
        if data.lstrip()[:1] != b"{":
            return b""
        while len(data) <= manifest.MAX_MANIFEST and (more := os.read(descriptor, manifest.MAX_MANIFEST)):
            data += more
        return data
    finally:
        os.close(descriptor)


def _read_link(path: str) -> str | None:
    """The text of a link; None if there is no such file, "" if it is empty."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return os.read(descriptor, 256).decode("ascii", "replace").strip()
    finally:
        os.close(descriptor)


def _time(path: str) -> float:
    try:
        return os.stat(path).st_mtime  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return 0.0
