"""Restores deleted tags in the storage, under a permit of the write lock, which excludes a collection.

The manifests come first, platforms before indexes, and the tag last. So a restore that is killed leaves
manifests without a tag, and the same restore again finishes it. The links are written, and the manifests are
not pushed to the registry: it would refuse an index that lacked a platform before the delete, or an image of
schema 1, and a push of the tag at the same time would be lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sysreg_cli.agent.registry_access import local_registry
from sysreg_cli.agent.storage import layout
from sysreg_cli.agent.storage.deleted import DeletedTag, deleted_tags, why_lost
from sysreg_cli.agent.storage.files import read_file
from sysreg_cli.agent.storage.recent import read_images
from sysreg_cli.agent.storage.removal import add_tag, remove_tags, tag_digest
from sysreg_cli.agent.storage.repository import Repository
from sysreg_cli.agent.storage.root import open_root
from sysreg_cli.agent.storage.snapshot import Snapshot
from sysreg_cli.agent.write_permit import write_permit
from sysreg_cli.errors import Conflict, NotFound, SysregError, text_of
from sysreg_cli.host import files
from sysreg_cli.reference import ImageReference
from sysreg_cli.registry.client import RegistryClient
from sysreg_cli.registry.manifests import RemoteManifest
from sysreg_cli.settings import Settings
from sysreg_cli.v1.restore import Restoration, RestoredImage

_NO_RECORD = (
    "a collection may have freed it, or its delete left no record, as those by docker or skopeo, on"
    " distribution 3 or on a full disk; see system registry-image-list --deleted"
)
# A delete of another tag that began before the restore may take a platform of it away, once.
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Order:
    """A tag to restore, or a digest: all tags that its last delete took. ``tag``: under which other tag."""

    image: ImageReference
    tag: str = ""


def restore(settings: Settings, orders: Sequence[Order]) -> Restoration:
    """Restore each of ``orders``, and see that the registry serves it.

    Raises NotSupported for a storage that cannot be read directly, or a registry that is read-only;
    Unavailable while a collection holds the write lock; SysregError.
    """
    results = restore_in_storage(settings, orders)
    with local_registry(settings) as registry:
        pairs = zip(orders, results, strict=True)
        return Restoration(tuple(_verified(registry, order.image, result) for order, result in pairs))


def restore_in_storage(settings: Settings, orders: Sequence[Order]) -> list[RestoredImage]:
    """Restore each of ``orders``, and do not ask the registry. Raises as ``restore``."""
    with write_permit(settings), open_root(settings, change=True) as root:
        storage = _Storage(root, read_images(root))
        return [_restore(storage, order) for order in orders]


class _Storage:
    """The storage as of one reading, and its deleted tags."""

    def __init__(self, root: Path, snapshot: Snapshot) -> None:
        self.root = root
        self.snapshot = snapshot
        self._deleted: dict[str, dict[str, list[DeletedTag]]] = {}

    def repository(self, name: str) -> Repository:
        return self.snapshot.repositories.get(name, Repository(name))

    def deleted(self, image: ImageReference) -> list[DeletedTag]:
        """Return the deletes of a tag, or of the tags on a digest, the latest first."""
        name = image.repository
        if name not in self._deleted:
            found: dict[str, list[DeletedTag]] = {}
            for it in deleted_tags(self.snapshot, self.repository(name)):
                found.setdefault(it.tag, []).append(it)
                found.setdefault(it.root, []).append(it)
            self._deleted[name] = found
        return self._deleted[name].get(image.tag or image.digest, [])


def _restore(storage: _Storage, order: Order) -> RestoredImage:
    image = str(order.image)
    linked: list[str] = []
    tags: list[str] = []
    taken: list[str] = []
    try:
        found = _find(storage, order)
        for it in found:
            tag = order.tag or it.tag
            try:
                linked += _put_back(storage.root, it, tag)
                tags.append(tag)
            except Conflict as error:
                taken.append(str(error))
    except SysregError as error:
        return RestoredImage(image, restored=False, error=str(error))
    except PermissionError:
        raise
    except OSError as error:
        return RestoredImage(image, restored=False, error=f"{image}: {text_of(error)}; run the command again")
    if not tags:
        return RestoredImage(image, restored=False, error=taken[0])
    return RestoredImage(
        image, True, found[0].root, tuple(tags), tuple(dict.fromkeys(linked)), warnings=tuple(taken)
    )


def _find(storage: _Storage, order: Order) -> list[DeletedTag]:
    """Return what to restore. Raises NotFound without a record, Conflict if it is lost or not known."""
    image = order.image
    deleted = storage.deleted(image)
    if not deleted:
        raise NotFound(f"{image}: there is no record of its delete", next_step=_NO_RECORD)
    latest = max(deleted, key=lambda it: it.written)
    if latest.root != deleted[0].root:
        # A client's clock was wrong, or a backup has changed the times of the files.
        digests = " or ".join(
            str(ImageReference(image.repository, digest=it.root)) for it in (latest, deleted[0])
        )
        raise Conflict(
            f"{image} was deleted more than once, and which delete was the last is not known",
            next_step=f"give the digest to restore: {digests}, with --as {order.tag or image.tag}",
        )
    found = [it for it in deleted if it.record == deleted[0].record]
    if order.tag:
        del found[1:]
    if lost := _why_lost(storage, found[0]):
        raise Conflict(f"{image} cannot be restored: {lost}", next_step=_instead(storage, order, deleted))
    return found


def _why_lost(storage: _Storage, deleted: DeletedTag) -> str:
    return why_lost(storage.snapshot, storage.repository(deleted.repository), deleted)


def _instead(storage: _Storage, order: Order, deleted: Sequence[DeletedTag]) -> str:
    """Return what to do instead of restoring the first of the deletes."""
    for it in deleted:
        if it.root != deleted[0].root and not _why_lost(storage, it):
            earlier = f"{ImageReference(it.repository, digest=it.root)} --as {order.tag or it.tag}"
            return f"push it again, or restore an earlier one: {earlier}"
    return "push it again"


def _put_back(root: Path, deleted: DeletedTag, tag: str) -> list[str]:
    """Put the manifests back, then ``tag``. Return the manifests that were not there.

    Raises Conflict if ``tag`` stands for something else.
    """
    repository = deleted.repository
    link = str(layout.repository(root, repository) / layout.tag_link(tag))
    _require_free(deleted, tag, link)
    linked = _link(root, deleted)
    if tag_digest(link) == deleted.record:
        _end_delete(root, deleted, tag)
    if not add_tag(root, repository, tag, deleted.root) and tag_digest(link) != deleted.root:
        raise _taken(deleted, tag, link)
    for _ in range(_TRIES):
        if not (lost := _link(root, deleted)):
            break
        linked += lost
    return linked


def _end_delete(root: Path, deleted: DeletedTag, tag: str) -> None:
    """Remove ``tag``, whose delete has not ended, from its placeholder.

    If it is the last tag there, the placeholder goes first, as in a delete. So its record is found at each
    moment: by a tag on it, or as an unlinked manifest.
    """
    tags = layout.repository(root, deleted.repository) / "_manifests/tags"
    others = (tag_digest(str(path / layout.TAG_LINK)) for path in tags.iterdir() if path.name != tag)
    if deleted.record not in others:
        files.remove(layout.revision(root, deleted.repository, deleted.record))
    remove_tags(root, deleted.repository, {tag: deleted.record})


def _require_free(deleted: DeletedTag, tag: str, link: str) -> None:
    """Raise Conflict if ``tag`` exists and stands neither for the image nor for its half-done delete."""
    exists = Path(link).parent.parent.exists()
    free = (deleted.root, deleted.record) if tag == deleted.tag else (deleted.root,)
    if exists and tag_digest(link) not in free:
        raise _taken(deleted, tag, link)


def _taken(deleted: DeletedTag, tag: str, link: str) -> Conflict:
    return Conflict(
        f"{deleted.repository}:{tag} stands for {tag_digest(link) or 'a damaged link'} now",
        next_step="restore it under another tag: --as TAG",
    )


def _link(root: Path, deleted: DeletedTag) -> list[str]:
    """Link the manifests in the repository, platforms first. Return those that were not linked."""
    linked = []
    for digest in reversed(deleted.manifests):
        link = layout.revision(root, deleted.repository, digest)
        if read_file(str(link)) != digest.encode():
            link.parent.mkdir(parents=True, exist_ok=True)
            files.write(link, digest.encode(), mode=0o644)
            linked.append(digest)
    return linked


def _verified(registry: RegistryClient, asked: ImageReference, result: RestoredImage) -> RestoredImage:
    """Return ``result`` as the registry serves it."""
    warnings = list(result.warnings)
    for tag in result.tags:
        image = asked.with_tag(tag)
        try:
            manifest = registry.manifest(image)
        except SysregError as error:
            problem = f"{image} is restored, but the registry does not serve it: {error}"
            return replace(result, restored=False, error=problem)
        if not isinstance(manifest, RemoteManifest):
            return replace(result, restored=False, error=f"{image}: the registry does not serve it")
        if manifest.digest != result.digest:
            warnings.append(f"{image} was pushed meanwhile, and stands for that")
    return replace(result, warnings=tuple(warnings))
