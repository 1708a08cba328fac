"""Reads and removes tags in the storage: what the registry cannot do, or only with a request for each tag.

Distribution 2.8 deletes tags only with their manifest, and not while it cannot read the link of any other tag
(docs/behaviour.rst, "docker-registry"). Every file is accessed with the rights of the storage's owner.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sysreg_cli.agent.storage import layout, removal
from sysreg_cli.agent.storage.files import read_file
from sysreg_cli.agent.storage.root import open_root
from sysreg_cli.agent.write_permit import write_permit
from sysreg_cli.errors import Conflict
from sysreg_cli.host import files
from sysreg_cli.reference import is_tag
from sysreg_cli.registry.manifests import placeholder
from sysreg_cli.settings import Settings

log = logging.getLogger("sysreg.agent")

#: tag to the manifests for which it stands, the root first
Trees = Mapping[str, Sequence[str]]


class TagStorage:
    """The tags of the configured registry, as its storage has them.

    Methods raise NotSupported unless the storage driver is ``filesystem``, and SysregError if the storage
    cannot be accessed.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def tags(self, repository: str) -> dict[str, str]:
        """Return each tag of a repository with the digest in its link, "" if the link is damaged."""
        with open_root(self._settings) as root:
            return _read(root, repository)

    def remove(
        self,
        repository: str,
        tags: Mapping[str, str],
        trees: Trees | None = None,
        *,
        by: str = "",
        pushed: Mapping[str, float] | None = None,
    ) -> list[str]:
        """Remove each of ``tags`` (tag to digest) that still stands for its digest, and return these.

        A tag that was pushed later than ``pushed`` says (seconds since the epoch) stays.

        The digest of a damaged link is "". A tag goes with its history, as in a delete by the registry. Its
        manifest stays. A record by the user ``by`` is left of each tag in ``trees``, so that it can be
        restored. Raises Unavailable while a collection holds the write lock, NotSupported if the registry
        deletes nothing.
        """
        with self._change() as root:
            known = {tag: tree for tag, tree in (trees or {}).items() if tag in tags and tree}
            # before the removal, so that a process that is killed leaves no tag without its record
            record = _add_record(root, repository, known, by)
            removed = removal.remove_tags(root, repository, tags, pushed)
            if record and not known.keys() <= set(removed):
                gone = {tag: known[tag] for tag in removed if tag in known}
                if _add_record(root, repository, gone, by) or not gone:
                    removal.remove_record(root, repository, record)
            return removed

    def remove_tag(self, repository: str, tag: str, digest: str) -> None:
        """Remove one tag. Raises Conflict if it does not stand for ``digest``, and what ``remove`` raises."""
        if not self.remove(repository, {tag: digest}):
            raise Conflict(f"{repository}:{tag} does not stand for {digest or 'a damaged link'}")

    def finish_delete(self, repository: str, digest: str) -> None:
        """Remove the tags that stand for a manifest that the registry has deleted.

        Raises Conflict if the repository still has the manifest, and what ``remove`` raises.
        """
        with self._change() as root:
            if read_file(str(layout.revision(root, repository, digest))) is not None:
                raise Conflict(
                    f"{repository}@{digest} is not deleted", next_step="delete it in the registry first"
                )
            stored = _read(root, repository)
            tags = {tag: digest for tag, on in stored.items() if on == digest}
            removal.remove_tags(root, repository, tags)

    @contextlib.contextmanager
    def _change(self) -> Iterator[Path]:
        """Yield the root of the storage. Meanwhile no collection begins to delete."""
        with write_permit(self._settings), open_root(self._settings, change=True) as root:
            yield root


def _add_record(root: Path, repository: str, trees: Trees, by: str) -> str:
    """Leave a record of the removal of the tags in ``trees``, and return its digest, "" if there is none."""
    if not trees:
        return ""
    record = placeholder(trees, by=by)
    try:
        removal.add_record(root, repository, record)
    except OSError as error:
        if not files.is_full(error):
            raise
        # a removal makes room in the end
        log.warning("%s: the removed tags cannot be restored: %s", repository, error.strerror)
        return ""
    return record.digest


def _read(root: Path, repository: str) -> dict[str, str]:
    try:
        names = os.listdir(layout.repository(root, repository) / "_manifests/tags")  # noqa: PTH208
    except FileNotFoundError:
        return {}
    return {name: _digest(root, repository, name) for name in names if is_tag(name)}


def _digest(root: Path, repository: str, tag: str) -> str:
    return removal.tag_digest(f"{layout.repository(root, repository)}/{layout.tag_link(tag)}")
