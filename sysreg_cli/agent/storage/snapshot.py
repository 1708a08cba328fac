"""Reads the storage of the registry's ``filesystem`` driver. See ``layout`` for its paths.

Times are seconds since the epoch. An entry that vanishes while it is read counts as absent. The caller has
the rights of the storage's owner, as the registry and its collector have.
"""

from __future__ import annotations

import contextlib
import gc
import os
import shlex
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path

from sysreg_cli.agent.storage import layout, manifest
from sysreg_cli.agent.storage.blobs import BlobReader
from sysreg_cli.agent.storage.files import (
    entries_of,
    is_directory,
    read_file,
    written,
)
from sysreg_cli.agent.storage.links import Links
from sysreg_cli.agent.storage.manifest import StoredManifest
from sysreg_cli.agent.storage.repository import Blob, Repository
from sysreg_cli.errors import SysregError
from sysreg_cli.reference import is_digest, is_repository, is_tag

#: how a manifest may begin
_JSON = {b"{", b" ", b"\n", b"\r", b"\t"}

#: manifests that were read, each with its blob at that time
Known = Mapping[str, tuple[Blob, StoredManifest]]


class Snapshot:
    """The repositories and blobs of the storage at one moment.

    ``foreign`` are paths that the registry does not write, at which its collector stops. ``strays`` are paths
    of what is in the place of a directory, outside of repositories. ``corrupt`` are blobs of other content
    than their digest says, as far as somebody has read them. ``manifests`` caches parsed manifests. ``known``
    ones are taken as they are, unless their blob has changed since. Links to layers that an ``earlier``
    snapshot of the same collection found sound are not read again. ``check`` is called before each file is
    read, and ends the reading by raising. Raises OSError if the storage can't be read. A storage without any
    push is empty. Raises SysregError if a file is where its repositories or blobs were.
    """

    def __init__(
        self,
        root: Path,
        earlier: Snapshot | None = None,
        *,
        known: Known | None = None,
        check: Callable[[], None] = lambda: None,
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
        self._check = check
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
        reader = BlobReader(self._blobs_path, self._owner, self._check)
        self.blobs = reader.read()
        self.strays.update(reader.strays)
        self.foreign.extend(reader.foreign)

    def manifest(self, digest: str) -> StoredManifest | None:
        """Return the manifest in a blob, None if the blob is missing, damaged, too large, or no manifest."""
        if (found := self.manifests.get(digest)) is not None or digest in self.manifests:
            return found
        if digest not in self.blobs:
            return None  # not cached: a later snapshot may have it
        data = self.content(digest)
        found = self.manifests[digest] = manifest.parse(data) if data else None
        return found

    def content(self, digest: str) -> bytes:
        """Return the content of a manifest, empty if it is missing, damaged, too large or no JSON."""
        blob = self.blobs.get(digest)
        if blob is None or not 0 < blob.size <= manifest.MAX_MANIFEST:
            return b""
        self._check()
        data = read_file(self.blob_path(digest), blob.size) or b""
        return data if data[:1] in _JSON and manifest.is_content_of(digest, data) else b""

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
        with self._links(repository.name) as links:
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

    def read_layers(self, repository: Repository, needed: Collection[str]) -> None:
        """Read the links of the layers ``needed``, and add what is in the way of others to the strays."""
        sound = self._sound_layers.setdefault(repository.name, set())
        strays, layers = len(repository.strays), []
        with self._links(repository.name) as links:
            for algorithm in self._directories(repository, "_layers"):
                path = f"_layers/{algorithm.name}"
                for entry in self._directories(repository, path):
                    self._check()
                    digest = f"{algorithm.name}:{entry.name}"
                    layers.append(digest)
                    link = f"{path}/{entry.name}/link"
                    if digest not in needed:
                        self._note_stray(repository, link, links)
                        if links.digest(link) not in (digest, "", None):
                            repository.strays.add(link)
                    elif digest not in sound and links.content(link) == digest.encode():
                        sound.add(digest)
        if len(repository.strays) == strays:
            self._layers[repository.name] = layers

    def leads_elsewhere(self, repository: Repository, layer: str) -> bool:
        """Whether the link of a layer names another one: a push would take that as the layer."""
        with self._links(repository.name) as links:
            return links.digest(layout.layer_link(layer)) not in (layer, "", None)

    def path(self, repository: str, rest: str) -> str:
        return f"{self._repositories_path}/{repository}/{rest}"

    def blob_path(self, digest: str) -> str:
        return layout.data_path(self._blobs_path, digest)

    def is_no_file(self, repository: str, link: str) -> bool:
        """Whether something that is no regular file is in the place of a link."""
        with self._links(repository) as links:
            return links.is_file(link) is False

    def obstacle(self, repository: str, link: str) -> str:
        """Return what is in the place of a directory on the way to a link of a repository, "" if nothing is.

        The registry follows symbolic links, but those in its own directories of a repository lead nowhere.
        """
        path = self.path(repository, "").rstrip("/")
        for name in link.split("/")[:-1]:
            path = f"{path}/{name}"
            if os.path.islink(path) or (os.path.lexists(path) and not os.path.isdir(path)):  # noqa: PTH112, PTH114
                return path
        return ""

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
                enumerable = "_layers" in own - strays
                repository = Repository(name, enumerable=enumerable, strays=strays)
                if "_layers" in strays:  # What the collector then does is not known.
                    self.foreign.append(f"{path}/_layers")
                if repository.enumerable and not is_repository(name):
                    self.foreign.append(path)
                self._read_manifests(repository)
                if "_uploads" in own:
                    uploads = entries_of(f"{path}/_uploads")
                    repository.uploads = sum(not _is_cancelled(entry.path) for entry in uploads)
                yield name, repository

    def _read_manifests(self, repository: Repository) -> None:
        with self._links(repository.name) as links:
            self._read_revisions(repository, links)
            self._read_tags(repository, links)
        if not (repository.revisions and repository.tags):
            for path in layout.DIRECTORIES:
                whole = self.path(repository.name, path)
                if os.path.lexists(whole) and not os.path.isdir(whole):  # noqa: PTH112
                    repository.odd.add(path)
                    self.foreign.append(whole)

    def _read_revisions(self, repository: Repository, links: Links) -> None:
        for algorithm in self._directories(repository, "_manifests/revisions"):
            path = f"_manifests/revisions/{algorithm.name}"
            for entry in self._directories(repository, path):
                self._check()
                digest = sys.intern(f"{algorithm.name}:{entry.name}")
                if not is_digest(digest):
                    self.foreign.append(entry.path)
                    continue
                link = f"{path}/{entry.name}/link"
                found = links.digest(link, (digest,))
                if found is None:
                    repository.unlinked.add(digest)
                    continue
                repository.revisions.add(digest)
                if found != digest:
                    repository.broken[digest] = found
                if not found and links.is_file(link) is False:
                    repository.odd.add(link)

    def _read_tags(self, repository: Repository, links: Links) -> None:
        for entry in entries_of(self.path(repository.name, "_manifests/tags")):
            self._check()
            if not is_tag(entry.name):
                repository.strays.add(f"_manifests/tags/{entry.name}")
                continue
            link = layout.tag_link(entry.name)
            digest = links.digest(link, repository.revisions) or ""
            repository.tags[entry.name] = sys.intern(digest)
            # the next push of the tag writes its history again
            if digest:
                self._note_stray(repository, layout.tag_history(entry.name, digest), links)
            else:
                if links.is_file(link) is False:
                    repository.odd.add(link)
                self._note_strays_of_history(repository, entry.name, links)

    def _links(self, repository: str) -> Links:
        return Links(f"{self._repositories_path}/{repository}", self._owner)

    def _note_stray(self, repository: Repository, link: str, links: Links) -> None:
        """Note what is in the way of a link."""
        is_file = links.is_file(link)
        if is_file is False:
            repository.strays.add(link)
        elif is_file is None and (obstacle := self.obstacle(repository.name, link)):
            repository.strays.add(obstacle.removeprefix(self.path(repository.name, "")))

    def _note_strays_of_history(self, repository: Repository, tag: str, links: Links) -> None:
        """Note what is in the way of a push of any manifest to a tag."""
        path = f"{layout.tag(tag)}/index"
        for algorithm in self._directories(repository, path):
            for entry in self._directories(repository, f"{path}/{algorithm.name}"):
                self._check()
                history = layout.tag_history(tag, f"{algorithm.name}:{entry.name}")
                self._note_stray(repository, history, links)

    def _directories(self, repository: Repository, path: str) -> list[os.DirEntry[str]]:
        """Return the directories in ``path``, relative to the repository, and note what else is there."""
        entries = entries_of(self.path(repository.name, path))
        found = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
        if len(found) < len(entries):
            names = {entry.name for entry in entries} - {entry.name for entry in found}
            repository.strays.update(f"{path}/{name}" for name in names)
        return found


@contextlib.contextmanager
def no_cycle_search() -> Iterator[None]:
    """Keep Python from searching for cycles: a snapshot has 200,000 objects and no cycle. This saves 5 %."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _is_cancelled(upload: str) -> bool:
    """Whether the upload was cancelled: the registry then writes ``hashstates`` again after its removal."""
    names = {entry.name for entry in entries_of(upload)}
    return "hashstates" in names and "startedat" not in names
