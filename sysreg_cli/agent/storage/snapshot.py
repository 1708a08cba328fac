"""Reads the storage of the registry's ``filesystem`` driver. See ``layout`` for its paths.

Times are seconds since the epoch. An entry that vanishes while it is read counts as absent. The caller has
the rights of the storage's owner, as the registry and its collector have.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from pathlib import Path

from sysreg_cli.agent.storage import layout
from sysreg_cli.agent.storage.blobs import BlobReader
from sysreg_cli.agent.storage.files import entries_of, is_directory, written
from sysreg_cli.agent.storage.links import obstacle
from sysreg_cli.agent.storage.manifest import ManifestReader, StoredManifest
from sysreg_cli.agent.storage.readers import Readers
from sysreg_cli.agent.storage.repositories import FoundRepository, RepositoryReader, WantedLayers
from sysreg_cli.agent.storage.repository import Blob, Repository
from sysreg_cli.errors import SysregError
from sysreg_cli.reference import is_repository

# A second process takes 50 ms to start: as long as it takes to read this many repositories.
_MANY = 200

#: manifests that were read, each with its blob at that time
Known = Mapping[str, tuple[Blob, StoredManifest]]


class Snapshot:
    """The repositories and blobs of the storage at one moment.

    ``foreign`` are paths that the registry does not write, at which its collector stops. ``strays`` are paths
    of what is in the place of a directory, outside of repositories. ``corrupt`` are blobs of other content
    than their digest says, as far as somebody has read them. ``manifests`` caches parsed manifests. ``known``
    ones are taken as they are, unless their blob has changed since. Links to layers that an ``earlier``
    snapshot of the same collection found sound are not read again. ``readers`` read, also later. Raises
    OSError if the storage can't be read. A storage without any push is empty. Raises SysregError if a file is
    where its repositories or blobs were.
    """

    def __init__(
        self,
        root: Path,
        earlier: Snapshot | None = None,
        *,
        known: Known | None = None,
        readers: Readers | None = None,
    ) -> None:
        if not root.is_dir():
            raise NotADirectoryError(f"{root} is not a directory")
        self._repositories_path = str(layout.repositories(root))
        self._blobs_path = str(layout.blobs(root))
        for path in (self._repositories_path, self._blobs_path):
            if os.path.lexists(path) and not os.path.isdir(path):  # noqa: PTH112
                raise SysregError(
                    f"{path} is not a directory", next_step=f"remove it: rm -r {shlex.quote(path)}"
                )
        self._owner = root.stat().st_uid
        self.readers = readers or Readers()
        self._check = self.readers.check
        self._repository_reader = RepositoryReader(self._repositories_path, self._owner)
        self._manifest_reader = ManifestReader(self._blobs_path)
        self.manifests: dict[str, StoredManifest | None] = {}
        self._sound_layers: dict[str, set[str]] = dict(earlier._sound_layers) if earlier else {}
        #: the layers that a repository links, where nothing else is among the links
        self._layers: dict[str, list[str]] = {}
        self.foreign: list[str] = []
        self.strays: set[str] = set()
        self.corrupt: set[str] = set()
        self.repositories: dict[str, Repository] = dict(self._read_repositories())
        self.blobs: dict[str, Blob] = {}
        self.read_blobs()
        for digest, (blob, read) in (known or (earlier.known() if earlier else {})).items():
            if self.blobs.get(digest) == blob:
                self.manifests[digest] = read

    def known(self) -> Known:
        """Return the manifests that could be read."""
        return {
            digest: (self.blobs[digest], read)
            for digest, read in self.manifests.items()
            if read is not None and digest in self.blobs
        }

    def read_blobs(self) -> None:
        """Read the blobs, also anew. Raises OSError."""
        self._start_second(len(self.repositories))
        reader = BlobReader(self._blobs_path, self._owner)
        self.blobs = reader.read(self.readers)
        self.manifests = {digest: it for digest, it in self.manifests.items() if digest in self.blobs}
        self.strays.update(reader.strays)
        self.foreign.extend(reader.foreign)

    def manifest(self, digest: str) -> StoredManifest | None:
        """Return the manifest in a blob, None if the blob is missing, damaged, too large, or no manifest."""
        if (found := self.manifests.get(digest)) is not None or digest in self.manifests:
            return found
        if digest not in self.blobs:
            return None  # not cached: a later snapshot may have it
        wanted = digest, self.blobs[digest].size
        found = self.manifests[digest] = self._manifest_reader.read(wanted, self._check)
        return found

    def read_manifests(self, digests: Set[str]) -> None:
        """Read those of the blobs that may be manifests in advance: several at once take less time."""
        unknown = (digests & self.blobs.keys()) - self.manifests.keys()
        wanted = [(digest, self.blobs[digest].size) for digest in unknown]
        found = self.readers.map(self._manifest_reader.read, wanted)
        self.manifests.update(zip(unknown, found, strict=True))

    def content(self, digest: str) -> bytes:
        """Return the content of a manifest, empty if it is missing, damaged, too large or no JSON."""
        if (blob := self.blobs.get(digest)) is None:
            return b""
        return self._manifest_reader.content((digest, blob.size), self._check)

    def time(self, repository: str, link: str) -> float:
        """Return when a link, relative to the repository, was written, 0 if it is not there."""
        return written(self.path(repository, link))

    def revision_time(self, repository: str, digest: str) -> float:
        """Return when the manifest was last pushed to the repository, 0 if it is not there."""
        self._check()
        return written(self.path(repository, layout.revision_link(digest)))

    def tagged_times(self, repository: str) -> dict[str, float]:
        """Map each manifest that a present tag points or pointed to, to when the last one began to."""
        times: dict[str, float] = {}
        for tag in self.repositories[repository].tags:
            for algorithm in entries_of(self.path(repository, f"_manifests/tags/{tag}/index")):
                for entry in entries_of(algorithm.path):
                    self._check()
                    digest = f"{algorithm.name}:{entry.name}"
                    times[digest] = max(times.get(digest, 0.0), written(f"{entry.path}/link"))
        return times

    def layers(self, repository: str) -> Iterator[tuple[str, float]]:
        """Yield the blobs that are linked in the repository, with the time of each link."""
        for digest in self._layer_digests(repository):
            if time := self.time(repository, layout.layer_link(digest)):
                yield digest, time

    def linked(self, repository: str) -> set[str]:
        """Return the blobs that the repository links, also those whose link is damaged or missing."""
        return set(self._layer_digests(repository))

    def link_times(self, digests: set[str]) -> dict[str, float]:
        """Map each of the blobs that is linked in any repository to the time of its latest link."""
        times: dict[str, float] = {}
        for name in self.repositories if digests else ():
            for digest in digests.intersection(self._layer_digests(name)):
                if time := self.time(name, layout.layer_link(digest)):
                    times[digest] = max(times.get(digest, 0.0), time)
        return times

    def broken_layers(self, repository: Repository, digests: Collection[str]) -> Iterator[tuple[str, str]]:
        """Yield those of the blobs whose link in the repository is missing or damaged, and what it is."""
        sound = self._sound_layers.setdefault(repository.name, set())
        with self._repository_reader.links(repository.name) as links:
            for digest in digests:
                if digest in sound:
                    continue
                self._check()
                found = links.digest(layout.layer_link(digest), (digest,))
                if found == digest:
                    sound.add(digest)
                else:
                    problem = "not linked in the repository" if found is None else "linked by a damaged file"
                    yield digest, problem

    def read_layers(self, needed: Mapping[str, Set[str]]) -> None:
        """Read the links of layers, and add what is in the way of others to the strays of their repository.

        ``needed`` maps repositories to the layers whose links are read.
        """
        wanted = [
            WantedLayers(name, layers, self._sound_layers.setdefault(name, set()))
            for name, layers in needed.items()
        ]
        for found in self.readers.map(self._repository_reader.read_layers, wanted):
            self._sound_layers[found.repository].update(found.sound)
            self.repositories[found.repository].strays.update(found.strays)
            if not found.strays:
                self._layers[found.repository] = found.listed

    def leads_elsewhere(self, repository: Repository, layer: str) -> bool:
        """Whether the link of a layer names another one: a push would take that as the layer."""
        with self._repository_reader.links(repository.name) as links:
            return links.digest(layout.layer_link(layer)) not in (layer, "", None)

    def path(self, repository: str, rest: str) -> str:
        return f"{self._repositories_path}/{repository}/{rest}"

    def blob_path(self, digest: str) -> str:
        return layout.data_path(self._blobs_path, digest)

    def is_no_file(self, repository: str, link: str) -> bool:
        """Whether something that is no regular file is in the place of a link."""
        with self._repository_reader.links(repository) as links:
            return links.is_file(link) is False

    def is_linked_by_now(self, repository: str, digest: str) -> bool:
        """Whether a manifest is linked now. A push may have linked and tagged it since the reading began."""
        with self._repository_reader.links(repository) as links:
            return links.digest(layout.revision_link(digest), (digest,)) == digest

    def obstacle(self, repository: str, link: str) -> str:
        """Return what is in the place of a directory on the way to a link, "" if nothing is."""
        return obstacle(f"{self._repositories_path}/{repository}", link)

    # -- reading ---------------------------------------------------------------------------------------

    def _layer_digests(self, repository: str) -> Iterable[str]:
        """Return the digests that the directories of links to layers have as names."""
        if (layers := self._layers.get(repository)) is not None:
            return layers
        algorithms = entries_of(self.path(repository, "_layers"))
        return [f"{it.name}:{entry.name}" for it in algorithms for entry in self._checked(it.path)]

    def _checked(self, path: str) -> Iterator[os.DirEntry[str]]:
        for entry in entries_of(path):
            self._check()
            yield entry

    def _read_repositories(self) -> Iterator[tuple[str, Repository]]:
        found = list(self._find_repositories())
        self._start_second(len(found))
        for read in self.readers.map(self._repository_reader.read, found):
            self.foreign.extend(read.foreign)
            yield read.repository.name, read.repository

    def _start_second(self, repositories: int) -> None:
        """Start a second process that reads, if there are many repositories."""
        if repositories >= _MANY:
            self.readers.start()

    def _find_repositories(self) -> Iterator[FoundRepository]:
        pending = [(self._repositories_path, "")]
        followed = set()  # what symbolic links lead to: one that leads upwards is read once
        while pending:
            path, name = pending.pop()
            own, strays = set(), set()
            for entry in entries_of(path):
                self._check()
                if entry.name.startswith("_"):
                    own.add(entry.name)
                    if entry.is_symlink() or not is_directory(entry):
                        strays.add(entry.name)
                elif is_directory(entry):  # follows symbolic links, as the registry and its collector do
                    if entry.is_symlink():
                        self.foreign.append(entry.path)
                        target = entry.stat()
                        if (target.st_dev, target.st_ino) in followed:
                            continue
                        followed.add((target.st_dev, target.st_ino))
                    pending.append((entry.path, f"{name}/{entry.name}" if name else entry.name))
                elif entry.is_symlink():
                    self.foreign.append(entry.path)
                    self.strays.add(entry.path)
                elif is_repository(entry.name):
                    self.strays.add(entry.path)
            if name and not own.isdisjoint(layout.OWN):
                strays &= set(layout.OWN)
                if "_layers" in strays:  # What the collector then does is not known.
                    self.foreign.append(f"{path}/_layers")
                enumerable = "_layers" in own - strays
                if enumerable and not is_repository(name):
                    self.foreign.append(path)
                yield FoundRepository(name, enumerable, frozenset(strays), "_uploads" in own)
