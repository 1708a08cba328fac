"""Reads the storage once, and says what the caller may know of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sysreg_cli.agent.garbage import planning
from sysreg_cli.agent.garbage.records import Deletion
from sysreg_cli.agent.storage import layout
from sysreg_cli.agent.storage.mark import Marks
from sysreg_cli.agent.storage.recent import reading
from sysreg_cli.agent.storage.repository import Repository
from sysreg_cli.agent.storage.root import open_root
from sysreg_cli.agent.storage.snapshot import Snapshot
from sysreg_cli.agent.usage.accounting import Share, Tag, shares
from sysreg_cli.reference import ImageReference, unknown_image
from sysreg_cli.settings import Settings
from sysreg_cli.text import iso_time
from sysreg_cli.v1.usage import Grouping, Usage, UsageRow


@dataclass(frozen=True, slots=True)
class Query:
    """What was asked, and by whom.

    ``sees`` tells whether the caller sees a repository. The figures of the whole storage name nobody, so a
    caller may have them (``whole``) without seeing every repository; otherwise the figures are those of the
    repositories that the caller sees. Without ``by`` there are no rows; ``image`` is the one whose tags
    Grouping.TAG shows.
    """

    sees: Callable[[str], bool]
    whole: bool
    by: Grouping | None = None
    image: str = ""


def read_usage(settings: Settings, query: Query) -> Usage:
    """Read the storage with the rights of its owner.

    Raises NotSupported for a storage that cannot be read directly, NotFound for an image that the caller
    does not see, SysregError.
    """
    dereferenced = Deletion.load(settings.paths.state / "garbage")
    began = time.time()
    with open_root(settings) as root, reading(root) as snapshot:
        return _Reading(root, snapshot, query, began).usage(float(settings.agent.collect_grace), dereferenced)


class _Reading:
    """The storage as of one reading."""

    def __init__(self, root: Path, snapshot: Snapshot, query: Query, began: float) -> None:
        self._began = began
        self._root = root
        self._query = query
        self._snapshot = snapshot
        self._seen = [it for name, it in snapshot.repositories.items() if query.sees(name)]

    def usage(self, grace: float, dereferenced: Mapping[str, float]) -> Usage:
        """Return the figures and the rows. See ``planning.make`` for the parameters."""
        rows = self._rows()
        if not self._query.whole:
            needed = {blob for it in self._seen for blob in Marks.of_tags(self._snapshot, it).blobs}
            return Usage(
                as_of=iso_time(self._began),
                images=sum(it.enumerable for it in self._seen),
                tags=sum(len(it.tags) for it in self._seen),
                bytes_referenced=self._bytes(needed & self._snapshot.blobs.keys()),
                bytes_in_uploads=self._uploads(self._seen),
                rows=rows,
            )
        plan, wider = planning.make_both(
            self._snapshot, now=self._began, grace=grace, dereferenced=dereferenced
        )
        stored = self._snapshot.blobs
        everything_stored = sum(blob.size for blob in stored.values() if blob.size > 0)
        referenced, untagged = self._bytes(plan.needed), self._bytes(plan.linked - plan.needed)
        disk = os.statvfs(self._root)
        everything = self._snapshot.repositories.values()
        return Usage(
            as_of=iso_time(self._began),
            images=sum(it.enumerable for it in everything),
            tags=sum(len(it.tags) for it in everything),
            bytes_referenced=referenced,
            size=disk.f_blocks * disk.f_frsize,
            free=disk.f_bavail * disk.f_frsize,
            bytes_untagged=untagged,
            bytes_unreferenced=everything_stored - untagged - referenced,
            bytes_in_uploads=self._uploads(everything),
            freed_by_collection=sum(plan.blobs.values()),
            freed_with_delete_untagged=sum(wider.blobs.values()),
            warnings=tuple(str(it) for it in plan.damages if self._query.sees(it.repository)),
            rows=rows,
        )

    # -- rows

    def _rows(self) -> tuple[UsageRow, ...]:
        match self._query.by:
            case Grouping.IMAGE:
                return tuple(self._images())
            case Grouping.USER:
                return tuple(self._users())
            case Grouping.TAG:
                return tuple(self._tags(self._query.image))
        return ()

    def _shares(self, group: Callable[[Tag], Hashable]) -> dict[Hashable, Share]:
        tags = (Tag(it.name, tag) for it in self._snapshot.repositories.values() for tag in it.tags)
        return shares(self._snapshot, {tag: group(tag) for tag in tags})

    def _images(self) -> Iterator[UsageRow]:
        found = self._shares(lambda tag: tag.repository)
        holders: dict[str, set[str]] = {}
        for repository in self._seen:
            for blob in _share(found, repository.name).blobs:
                holders.setdefault(blob, set()).add(repository.name)
        for repository in self._seen:
            share = _share(found, repository.name)
            sharing = {name for blob in share.blobs for name in holders[blob]} - {repository.name}
            yield UsageRow(
                repository.name,
                share.size,
                share.unique,
                images=1,
                tags=len(repository.tags),
                shared_with=tuple(sorted(sharing)),
                last_pushed=self._last_pushed(repository, repository.tags),
            )

    def _users(self) -> Iterator[UsageRow]:
        # not the figures of repositories of a user that the caller does not see
        seen = {repository.name for repository in self._seen}
        found = self._shares(lambda tag: (_user(tag.repository), tag.repository in seen))
        owned: dict[str | None, list[Repository]] = {}
        for repository in self._seen:
            owned.setdefault(_user(repository.name), []).append(repository)
        for user, repositories in owned.items():
            share = _share(found, (user, True))
            tags = sum(len(it.tags) for it in repositories)
            yield UsageRow(user, share.size, share.unique, images=len(repositories), tags=tags)

    def _tags(self, image: str) -> Iterator[UsageRow]:
        repository = next((it for it in self._seen if it.name == image), None)
        if repository is None:
            raise unknown_image(ImageReference(image))
        found = self._shares(lambda tag: tag)
        for tag, digest in repository.tags.items():
            share = _share(found, Tag(image, tag))
            pushed = self._last_pushed(repository, [tag])
            yield UsageRow(tag, share.size, share.unique, images=1, tags=1, digest=digest, last_pushed=pushed)

    # -- figures

    def _last_pushed(self, repository: Repository, tags: Iterable[str]) -> str:
        """Return when the latest of the tags was pushed, "" if there is none."""
        times = [self._snapshot.time(repository.name, layout.tag_link(tag)) for tag in tags]
        latest = max(times, default=0.0)
        return iso_time(latest) if latest else ""

    def _bytes(self, blobs: Iterable[str]) -> int:
        stored = self._snapshot.blobs
        found = (blob for digest in blobs if (blob := stored.get(digest)))
        return sum(blob.size for blob in found if blob.size > 0)

    def _uploads(self, repositories: Iterable[Repository]) -> int:
        """Return the bytes that uploads which have not ended, or never will, have stored."""
        total = 0
        for repository in (it for it in repositories if it.uploads):
            for data in (layout.repository(self._root, repository.name) / "_uploads").glob("*/data"):
                try:
                    total += data.lstat().st_size
                except FileNotFoundError:
                    continue  # it has just ended
        return total


def _share(found: Mapping[Hashable, Share], group: Hashable) -> Share:
    return found.get(group, Share(0, 0, frozenset()))


def _user(repository: str) -> str | None:
    """Return whose repository it is by its name: a user owns what is below ``USER/``."""
    first, slash, _ = repository.partition("/")
    return first if slash else None
