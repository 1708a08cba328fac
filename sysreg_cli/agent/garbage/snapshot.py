"""Reads the storage of the registry's ``filesystem`` driver. See ``layout`` for its paths.

Times are seconds since the epoch. An entry that vanishes while it is read counts as absent.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from sysreg_cli.agent.garbage import layout, manifest
from sysreg_cli.agent.garbage.manifest import StoredManifest
from sysreg_cli.reference import is_digest

# O_NONBLOCK: without it, opening a FIFO waits for a writer.
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_MISSING = (FileNotFoundError, NotADirectoryError)
_BLOCK = 8192


@dataclass(slots=True)
class Repository:
    """One repository.

    ``tags`` maps each tag to a digest, "" if the link is damaged. ``revisions`` are the digests of its
    manifests. ``broken`` are revisions with a damaged link, at which the registry's collector stops.
    ``uploads`` counts uploads under way. The registry's catalog and collector only see an ``enumerable``
    repository.
    """

    name: str
    tags: dict[str, str] = field(default_factory=dict)
    revisions: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    uploads: int = 0
    enumerable: bool = True


class Blob(NamedTuple):
    """A stored blob: its size in bytes, 0 if it is not a regular file, and when it was written."""

    size: int
    time: float


class Snapshot:
    """The repositories and blobs of the storage at one moment.

    ``manifests`` caches parsed manifests, for later snapshots as well: the content of a digest never changes.
    Raises OSError if the storage can't be read. A storage without any push is empty.
    """

    def __init__(self, root: Path, manifests: dict[str, StoredManifest | None] | None = None) -> None:
        if not root.is_dir():
            raise NotADirectoryError(f"{root} is not a directory")
        self._repositories_path = str(layout.repositories(root))
        self._blobs_path = str(layout.blobs(root))
        self.manifests: dict[str, StoredManifest | None] = {} if manifests is None else manifests
        self.repositories: dict[str, Repository] = dict(self._read_repositories())
        self.blobs: dict[str, Blob] = dict(self._read_blobs())

    def manifest(self, digest: str) -> StoredManifest | None:
        """Return the manifest in a blob, None if the blob is missing, too large, or no manifest."""
        if digest in self.manifests:
            return self.manifests[digest]
        blob = self.blobs.get(digest)
        if blob is None:
            return None  # not cached: a later snapshot may have it
        readable = 0 < blob.size <= manifest.MAX_MANIFEST
        data = _document(layout.data_path(self._blobs_path, digest), blob.size) if readable else b""
        self.manifests[digest] = manifest.parse(data) if data else None
        return self.manifests[digest]

    def revision_time(self, repository: str, digest: str) -> float:
        """Return when the manifest was last pushed to the repository, 0 if it is not there."""
        return _time(self._path(repository, f"_manifests/revisions/{layout.digest_path(digest)}/link"))

    def tagged_time(self, repository: str, digest: str) -> float:
        """Return when a present tag of the repository last began to point to the manifest, 0 if none did."""
        history = f"index/{layout.digest_path(digest)}/link"
        tags = self.repositories[repository].tags
        return max(
            (_time(self._path(repository, f"_manifests/tags/{tag}/{history}")) for tag in tags), default=0.0
        )

    def layers(self, repository: str) -> Iterator[tuple[str, float]]:
        """Yield the blobs that are linked in the repository, with the time of each link."""
        for digest, link in self._layer_links(repository):
            if time := _time(link):
                yield digest, time

    def link_times(self, digests: Set[str]) -> dict[str, float]:
        """Map each of the blobs that is linked in any repository to the time of its latest link."""
        times: dict[str, float] = {}
        for name in self.repositories if digests else ():
            for digest, link in self._layer_links(name):
                if digest in digests and (time := _time(link)):
                    times[digest] = max(times.get(digest, 0.0), time)
        return times

    # -- reading ---------------------------------------------------------------------------------------

    def _path(self, repository: str, rest: str) -> str:
        return f"{self._repositories_path}/{repository}/{rest}"

    def _layer_links(self, repository: str) -> Iterator[tuple[str, str]]:
        for algorithm in _entries(self._path(repository, "_layers")):
            for entry in _entries(algorithm.path):
                yield f"{algorithm.name}:{entry.name}", f"{entry.path}/link"

    def _read_repositories(self) -> Iterator[tuple[str, Repository]]:
        pending = [(self._repositories_path, "")]
        while pending:
            path, name = pending.pop()
            own = set()
            for entry in _entries(path):
                if entry.name.startswith("_"):
                    own.add(entry.name)
                elif entry.is_dir():  # follows symbolic links, as the registry and its collector do
                    pending.append((entry.path, f"{name}/{entry.name}" if name else entry.name))
            if name and not own.isdisjoint(layout.OWN):
                yield name, _read_repository(path, name, own)

    def _read_blobs(self) -> Iterator[tuple[str, Blob]]:
        for algorithm in _entries(self._blobs_path):
            for prefix in _entries(algorithm.path):
                # Names relative to an open directory take a fifth less time than whole paths.
                try:
                    directory = os.open(prefix.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                except _MISSING:
                    continue
                try:
                    for name in os.listdir(directory):  # noqa: PTH208
                        try:
                            status = os.stat(f"{name}/data", dir_fd=directory)
                        except _MISSING:
                            continue
                        digest = sys.intern(f"{algorithm.name}:{name}")
                        size = status.st_size if stat.S_ISREG(status.st_mode) else 0
                        yield digest, Blob(size, status.st_mtime)
                finally:
                    os.close(directory)


def _read_repository(path: str, name: str, own: set[str]) -> Repository:
    repository = Repository(name, enumerable="_layers" in own)
    if "_manifests" in own:
        for algorithm in _entries(f"{path}/_manifests/revisions"):
            for entry in _entries(algorithm.path):
                link = _link(entry.path + "/link")
                if link is None:
                    continue  # the manifest was unlinked, and its directory stayed
                digest = sys.intern(f"{algorithm.name}:{entry.name}")
                repository.revisions.add(digest)
                if link != digest:
                    repository.broken.add(digest)
        for entry in _entries(f"{path}/_manifests/tags"):
            link = _link(entry.path + "/current/link")
            if link is None and not entry.is_dir(follow_symlinks=False):
                continue
            repository.tags[entry.name] = sys.intern(link) if link and is_digest(link) else ""
    if "_uploads" in own:
        repository.uploads = sum(not _is_cancelled(entry.path) for entry in _entries(f"{path}/_uploads"))
    return repository


def _link(path: str) -> str | None:
    """Return the digest in a link, "" if it is damaged, None if there is no link."""
    try:
        descriptor = os.open(path, _READ | os.O_NOFOLLOW)
    except _MISSING:
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a symbolic link, a socket
            return ""
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        return os.read(descriptor, _BLOCK).decode("ascii", "replace").strip()
    finally:
        os.close(descriptor)


def _is_cancelled(upload: str) -> bool:
    """Whether the upload was cancelled: the registry then writes ``hashstates`` again after its removal."""
    names = {entry.name for entry in _entries(upload)}
    return "hashstates" in names and "startedat" not in names


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except _MISSING:
        return []


def _document(path: str, size: int) -> bytes:
    """Read a blob that may be JSON. Returns nothing for other blobs, such as most layers."""
    # os.read takes half the time of a file object, and this runs for each manifest of the registry.
    try:
        descriptor = os.open(path, _READ)
    except _MISSING:
        return b""
    try:
        data = os.read(descriptor, _BLOCK)
        if data.lstrip()[:1] != b"{":
            return b""
        while len(data) < size and (more := os.read(descriptor, size)):
            data += more
        return data
    finally:
        os.close(descriptor)


def _time(path: str) -> float:
    try:
        return os.stat(path).st_mtime  # noqa: PTH116
    except _MISSING:
        return 0.0
