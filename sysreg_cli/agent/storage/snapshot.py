"""Reads the storage of the registry's ``filesystem`` driver. See ``layout`` for its paths.

Times are seconds since the epoch. An entry that vanishes while it is read counts as absent. The caller has
the rights of the storage's owner, as the registry and its collector have.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from sysreg_cli.agent.storage import layout, manifest
from sysreg_cli.agent.storage.manifest import StoredManifest
from sysreg_cli.reference import is_digest, is_repository

# O_NONBLOCK: without it, opening a FIFO waits for a writer.
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
_MISSING = (FileNotFoundError, NotADirectoryError)
# A symbolic link, a socket, a directory, a FIFO whose writer has written nothing, an unreadable sector.
_UNREADABLE = {errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.EAGAIN, errno.EIO}
_BLOCK = 8192
#: how a manifest may begin
_JSON = {b"{", b" ", b"\n", b"\r", b"\t"}


@dataclass(slots=True)
class Repository:
    """One repository.

    ``tags`` maps each tag to a digest, "" if the link is damaged. ``revisions`` are the digests of its
    manifests. ``broken`` are revisions with a damaged link. ``odd`` are paths, relative to the repository, of
    links that are no regular files, and of ``layout.DIRECTORIES`` that are none. ``uploads`` counts uploads
    under way. The registry's catalog and collector only
    see an ``enumerable`` repository.
    """

    name: str
    tags: dict[str, str] = field(default_factory=dict)
    revisions: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    odd: set[str] = field(default_factory=set)
    uploads: int = 0
    enumerable: bool = True


class Blob(NamedTuple):
    """A stored blob: its size in bytes, -1 if it is not a regular file, and when it was written."""

    size: int
    time: float


class Snapshot:
    """The repositories and blobs of the storage at one moment.

    ``foreign`` are paths that the registry does not write, at which its collector stops. ``manifests`` caches
    parsed manifests. Those that an earlier snapshot could read are taken from it: the content of a digest
    never changes. But a damaged one may be mended, or have been half written then. ``check`` is called
    before each file is read, and ends the reading by raising. Raises OSError if the storage can't be read. A
    storage without any push is empty.
    """

    def __init__(
        self,
        root: Path,
        manifests: Mapping[str, StoredManifest | None] | None = None,
        *,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        if not root.is_dir():
            raise NotADirectoryError(f"{root} is not a directory")
        self._repositories_path = str(layout.repositories(root))
        self._blobs_path = str(layout.blobs(root))
        self._check = check
        self.manifests: dict[str, StoredManifest | None] = {
            digest: read for digest, read in (manifests or {}).items() if read is not None
        }
        self.foreign: list[str] = []
        self.repositories: dict[str, Repository] = dict(self._read_repositories())
        self.blobs: dict[str, Blob] = {}
        self.read_blobs()

    def read_blobs(self) -> None:
        """Read the blobs, also anew. Raises OSError."""
        self.blobs = dict(self._blobs())

    def manifest(self, digest: str) -> StoredManifest | None:
        """Return the manifest in a blob, None if the blob is missing, damaged, too large, or no manifest."""
        if digest in self.manifests:
            return self.manifests[digest]
        blob = self.blobs.get(digest)
        if blob is None:
            return None  # not cached: a later snapshot may have it
        self._check()
        readable = 0 < blob.size <= manifest.MAX_MANIFEST
        data = (read_file(self.blob_path(digest), blob.size) if readable else None) or b""
        sound = data[:1] in _JSON and manifest.is_content_of(digest, data)
        self.manifests[digest] = manifest.parse(data) if sound else None
        return self.manifests[digest]

    def time(self, repository: str, link: str) -> float:
        """Return when a link, relative to the repository, was written, 0 if it is not there."""
        return _time(self.path(repository, link))

    def revision_time(self, repository: str, digest: str) -> float:
        """Return when the manifest was last pushed to the repository, 0 if it is not there."""
        self._check()
        return _time(self.path(repository, layout.revision_link(digest)))

    def tagged_times(self, repository: str) -> dict[str, float]:
        """Map each manifest that a present tag points or pointed to, to when the last one began to."""
        times: dict[str, float] = {}
        for tag in self.repositories[repository].tags:
            for algorithm in _entries(self.path(repository, f"_manifests/tags/{tag}/index")):
                for entry in _entries(algorithm.path):
                    self._check()
                    digest = f"{algorithm.name}:{entry.name}"
                    times[digest] = max(times.get(digest, 0.0), _time(f"{entry.path}/link"))
        return times

    def layers(self, repository: str) -> Iterator[tuple[str, float]]:
        """Yield the blobs that are linked in the repository, with the time of each link."""
        for digest, link in self._layer_links(repository):
            if time := _time(link):
                yield digest, time

    def linked(self, repository: str) -> set[str]:
        """Return the blobs that the repository links, also those whose link is damaged or missing."""
        return {digest for digest, _ in self._layer_links(repository)}

    def link_times(self, digests: Set[str]) -> dict[str, float]:
        """Map each of the blobs that is linked in any repository to the time of its latest link."""
        times: dict[str, float] = {}
        for name in self.repositories if digests else ():
            for digest, link in self._layer_links(name):
                if digest in digests and (time := _time(link)):
                    times[digest] = max(times.get(digest, 0.0), time)
        return times

    def broken_layers(self, repository: Repository, digests: Collection[str]) -> Iterator[tuple[str, str]]:
        """Yield those of the blobs whose link in the repository is missing or damaged, and what it is."""
        for digest in digests:
            self._check()
            path = layout.layer_link(digest)
            if read_file(self.path(repository.name, path)) != digest.encode():
                link = self._link(repository, path)
                yield digest, "not linked in the repository" if link is None else "linked by a damaged file"

    def path(self, repository: str, rest: str) -> str:
        return f"{self._repositories_path}/{repository}/{rest}"

    def blob_path(self, digest: str) -> str:
        return layout.data_path(self._blobs_path, digest)

    # -- reading ---------------------------------------------------------------------------------------

    def _layer_links(self, repository: str) -> Iterator[tuple[str, str]]:
        for algorithm in _entries(self.path(repository, "_layers")):
            for entry in _entries(algorithm.path):
                self._check()
                yield f"{algorithm.name}:{entry.name}", f"{entry.path}/link"

    def _read_repositories(self) -> Iterator[tuple[str, Repository]]:
        pending = [(self._repositories_path, "")]
        followed = set()  # what symbolic links lead to: one that leads upwards is read once
        while pending:
            path, name = pending.pop()
            own = set()
            for entry in _entries(path):
                self._check()
                if entry.name.startswith("_"):
                    own.add(entry.name)
                elif entry.is_dir():  # follows symbolic links, as the registry and its collector do
                    if entry.is_symlink():
                        self.foreign.append(entry.path)
                        target = entry.stat()
                        if (target.st_dev, target.st_ino) in followed:
                            continue
                        followed.add((target.st_dev, target.st_ino))
                    pending.append((entry.path, f"{name}/{entry.name}" if name else entry.name))
            if name and not own.isdisjoint(layout.OWN):
                repository = Repository(name, enumerable="_layers" in own)
                if repository.enumerable and not is_repository(name):
                    self.foreign.append(path)
                self._read_manifests(repository)
                if "_uploads" in own:
                    uploads = _entries(f"{path}/_uploads")
                    repository.uploads = sum(not _is_cancelled(entry.path) for entry in uploads)
                yield name, repository

    def _read_manifests(self, repository: Repository) -> None:
        for algorithm in _entries(self.path(repository.name, "_manifests/revisions")):
            for entry in _entries(algorithm.path):
                self._check()
                digest = sys.intern(f"{algorithm.name}:{entry.name}")
                if not is_digest(digest):
                    self.foreign.append(entry.path)
                    continue
                if read_file(f"{entry.path}/link") == digest.encode():
                    repository.revisions.add(digest)
                    continue
                # If it is None, the manifest was unlinked, and its directory stayed.
                if (link := self._link(repository, layout.revision_link(digest))) is not None:
                    repository.revisions.add(digest)
                    if link != digest:
                        repository.broken.add(digest)
        for entry in _entries(self.path(repository.name, "_manifests/tags")):
            self._check()
            link = self._link(repository, layout.tag_link(entry.name))
            if link is None and not entry.is_dir(follow_symlinks=False):
                continue
            repository.tags[entry.name] = sys.intern(link or "")
        if not (repository.revisions and repository.tags):
            for path in layout.DIRECTORIES:
                whole = self.path(repository.name, path)
                if os.path.lexists(whole) and not os.path.isdir(whole):  # noqa: PTH112
                    repository.odd.add(path)
                    self.foreign.append(whole)

    def _link(self, repository: Repository, path: str) -> str | None:
        """Return the digest in a link of a repository, "" if it is damaged, None if there is no link."""
        whole = self.path(repository.name, path)
        if (data := read_file(whole)) is None:
            return None
        text = data.decode("ascii", "replace")
        if is_digest(text):
            return text
        try:
            if not stat.S_ISREG(os.lstat(whole).st_mode):
                repository.odd.add(path)
        except _MISSING:
            return None
        return ""

    def _blobs(self) -> Iterator[tuple[str, Blob]]:
        for algorithm in _entries(self._blobs_path):
            for prefix in _entries(algorithm.path):
                # Names relative to an open directory take a fifth less time than whole paths.
                try:
                    directory = os.open(prefix.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                except _MISSING:
                    continue
                try:
                    for name in os.listdir(directory):  # noqa: PTH208
                        self._check()
                        try:
                            status = os.stat(f"{name}/data", dir_fd=directory, follow_symlinks=False)
                        except _MISSING:
                            continue
                        except PermissionError as error:
                            error.filename = f"{prefix.path}/{name}"
                            raise
                        digest = sys.intern(f"{algorithm.name}:{name}")
                        if not is_digest(digest) or name[:2] != prefix.name:
                            self.foreign.append(f"{prefix.path}/{name}")
                            continue
                        size = status.st_size if stat.S_ISREG(status.st_mode) else -1
                        yield digest, Blob(size, status.st_mtime)
                finally:
                    os.close(directory)


def read_file(path: str, size: int = 0) -> bytes | None:
    """Return the content of a file that may have ``size`` bytes, but of one that is long only if it is JSON.

    Most layers are long and no JSON. Return nothing if the file can't be read, None if there is none.
    """
    # os.read takes half the time of a file object, and this runs for each link and manifest of the registry.
    try:
        descriptor = os.open(path, _READ)
    except _MISSING:
        return None
    except OSError as error:
        if error.errno in _UNREADABLE:
            return b""
        raise
    try:
        data = os.read(descriptor, _BLOCK)
        if len(data) == _BLOCK and data.lstrip()[:1] == b"{":
            while len(data) < size and (more := os.read(descriptor, size)):
                data += more
        return data  # noqa: TRY300
    except OSError as error:
        if error.errno in _UNREADABLE:
            return b""
        raise
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


def _time(path: str) -> float:
    try:
        return os.stat(path).st_mtime  # noqa: PTH116
    except _MISSING:
        return 0.0
