"""Says which tags were deleted, and which of them can be restored."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sysreg_cli.agent.storage.deleted import DeletedTag, deleted_tags, is_restored, why_lost
from sysreg_cli.agent.storage.recent import reading
from sysreg_cli.agent.storage.repository import Repository
from sysreg_cli.agent.storage.root import open_root
from sysreg_cli.agent.storage.snapshot import Snapshot
from sysreg_cli.settings import Settings
from sysreg_cli.text import iso_time, printable
from sysreg_cli.v1 import restore as v1
from sysreg_cli.v1.restore import DeletedState

# Whoever may push can write a record, with any text as the user.
_MAX_NAME = 100


def list_deleted(settings: Settings, sees: Callable[[str], bool]) -> v1.DeletedTags:
    """Return the deleted tags of the repositories that the caller ``sees``.

    Raises NotSupported for a storage that cannot be read directly, SysregError.
    """
    with open_root(settings) as root, reading(root) as snapshot:
        return v1.DeletedTags(tuple(_entries(snapshot, sees)))


def _entries(snapshot: Snapshot, sees: Callable[[str], bool]) -> Iterator[v1.DeletedTag]:
    for name, repository in snapshot.repositories.items():
        listed = set()  # a tag that was restored, and deleted again, has two records
        for deleted in deleted_tags(snapshot, repository) if sees(name) else ():
            what = (deleted.tag, deleted.manifests)
            if what not in listed and not is_restored(repository, deleted):
                listed.add(what)
                state, reason = _state(snapshot, repository, deleted)
                time = iso_time(deleted.at)
                by = printable(deleted.by, _MAX_NAME)
                yield v1.DeletedTag(str(deleted), deleted.root, time, by, state, reason)


def _state(snapshot: Snapshot, repository: Repository, deleted: DeletedTag) -> tuple[DeletedState, str]:
    if lost := why_lost(snapshot, repository, deleted):
        return DeletedState.LOST, lost
    now = repository.tags.get(deleted.tag)
    if now == deleted.record:
        return DeletedState.RESTORABLE, "its delete has not ended"
    if now not in (None, deleted.root):
        return DeletedState.TAG_IN_USE, "restore it with --as under another tag"
    return DeletedState.RESTORABLE, ""
