"""Reads single repositories of the storage: tags, manifests, uploads, and the links to layers."""

from __future__ import annotations

import os
import sys
from collections.abc import Set
from dataclasses import dataclass, field
from typing import NamedTuple

from sysreg_cli.agent.storage import layout
from sysreg_cli.agent.storage.files import entries_of
from sysreg_cli.agent.storage.links import Links, obstacle
from sysreg_cli.agent.storage.readers import Check
from sysreg_cli.agent.storage.repository import Repository
from sysreg_cli.reference import is_digest, is_tag


class FoundRepository(NamedTuple):
    """A repository that was found in the storage, of which only the name is known."""

    name: str
    enumerable: bool
    strays: frozenset[str]
    has_uploads: bool


class ReadRepository(NamedTuple):
    """What is in a repository, and which paths of it the registry does not write."""

    repository: Repository
    foreign: list[str]


class WantedLayers(NamedTuple):
    """Which links to layers of a repository to read: the ``needed`` ones, but not the ``sound`` ones."""

    repository: str
    needed: Set[str]
    sound: Set[str]


@dataclass(slots=True)
class ReadLayers:
    """The links to layers of a repository.

    ``listed`` are the layers that it links, ``sound`` those whose link was read and found sound. ``strays``
    are paths, relative to the repository, of what is in the way of a link.
    """

    repository: str
    listed: list[str] = field(default_factory=list)
    sound: set[str] = field(default_factory=set)
    strays: set[str] = field(default_factory=set)


class RepositoryReader:
    """Reads repositories below ``top``, also in another process.

    ``owner`` is the user as whom the registry reads. Methods raise OSError.
    """

    def __init__(self, top: str, owner: int) -> None:
        self._top = top
        self._owner = owner

    def links(self, repository: str) -> Links:
        return Links(f"{self._top}/{repository}", self._owner)

    def read(self, found: FoundRepository, check: Check) -> ReadRepository:
        """Read all but the links to layers."""
        repository = Repository(found.name, enumerable=found.enumerable, strays=set(found.strays))
        with self.links(found.name) as links:
            reading = _Reading(f"{self._top}/{found.name}", links, repository.strays, check)
            reading.read_revisions(repository)
            reading.read_tags(repository)
        if not (repository.revisions and repository.tags):
            reading.look_for_directories(repository)
        if found.has_uploads:
            uploads = entries_of(f"{self._top}/{found.name}/_uploads")
            repository.uploads = sum(not _is_cancelled(entry.path) for entry in uploads)
        return ReadRepository(repository, reading.foreign)

    def read_layers(self, wanted: WantedLayers, check: Check) -> ReadLayers:
        """Read the links to the layers that are wanted, and look at what is in the place of the others."""
        found = ReadLayers(wanted.repository)
        needed, sound = wanted.needed, wanted.sound
        with self.links(wanted.repository) as links:
            reading = _Reading(f"{self._top}/{wanted.repository}", links, found.strays, check)
            for algorithm in reading.directories("_layers"):
                path = f"_layers/{algorithm.name}"
                for entry in reading.directories(path):
                    check()
                    digest = f"{algorithm.name}:{entry.name}"
                    found.listed.append(digest)
                    link = f"{path}/{entry.name}/link"
                    if digest not in needed:
                        reading.note_stray(link)
                        if links.digest(link) not in (digest, "", None):
                            found.strays.add(link)
                    elif digest not in sound and links.content(link) == digest.encode():
                        found.sound.add(digest)
        return found


class _Reading:
    """The reading of the repository at ``path``. ``strays`` is where strays are noted.

    ``foreign`` are paths that the registry does not write.
    """

    def __init__(self, path: str, links: Links, strays: set[str], check: Check) -> None:
        self.foreign: list[str] = []
        self._path = path
        self._links = links
        self._strays = strays
        self._check = check

    def read_revisions(self, repository: Repository) -> None:
        links = self._links
        for algorithm in self.directories("_manifests/revisions"):
            path = f"_manifests/revisions/{algorithm.name}"
            for entry in self.directories(path):
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

    def read_tags(self, repository: Repository) -> None:
        links = self._links
        for entry in entries_of(f"{self._path}/_manifests/tags"):
            self._check()
            if not is_tag(entry.name):
                self._strays.add(f"_manifests/tags/{entry.name}")
                continue
            link = layout.tag_link(entry.name)
            digest = links.digest(link, repository.revisions) or ""
            repository.tags[entry.name] = sys.intern(digest)
            # the next push of the tag writes its history again
            if digest:
                self.note_stray(layout.tag_history(entry.name, digest))
            else:
                if links.is_file(link) is False:
                    repository.odd.add(link)
                self._note_strays_of_history(entry.name)

    def look_for_directories(self, repository: Repository) -> None:
        """Note what is in the place of the directories for manifests."""
        for path in layout.DIRECTORIES:
            whole = f"{self._path}/{path}"
            if os.path.lexists(whole) and not os.path.isdir(whole):  # noqa: PTH112
                repository.odd.add(path)
                self.foreign.append(whole)

    def note_stray(self, link: str) -> None:
        """Note what is in the way of a link."""
        is_file = self._links.is_file(link)
        if is_file is False:
            self._strays.add(link)
        elif is_file is None and (found := obstacle(self._path, link)):
            self._strays.add(found.removeprefix(f"{self._path}/"))

    def directories(self, path: str) -> list[os.DirEntry[str]]:
        """Return the directories in ``path``, relative to the repository, and note what else is there."""
        entries = entries_of(f"{self._path}/{path}")
        found = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
        if len(found) < len(entries):
            names = {entry.name for entry in entries} - {entry.name for entry in found}
            self._strays.update(f"{path}/{name}" for name in names)
        return found

    def _note_strays_of_history(self, tag: str) -> None:
        """Note what is in the way of a push of any manifest to a tag."""
        path = f"{layout.tag(tag)}/index"
        for algorithm in self.directories(path):
            for entry in self.directories(f"{path}/{algorithm.name}"):
                self._check()
                self.note_stray(layout.tag_history(tag, f"{algorithm.name}:{entry.name}"))


def _is_cancelled(upload: str) -> bool:
    """Whether the upload was cancelled: the registry then writes ``hashstates`` again after its removal."""
    names = {entry.name for entry in entries_of(upload)}
    return "hashstates" in names and "startedat" not in names
