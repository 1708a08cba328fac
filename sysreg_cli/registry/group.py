"""The steps of a delete, for all targets of one repository together. deletion.py says what they guarantee."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence

from sysreg_cli.errors import (
    Conflict,
    NotStored,
    NotSupported,
    ProtocolError,
    SysregError,
    TagsLeft,
    Unavailable,
)
from sysreg_cli.reference import ImageReference
from sysreg_cli.registry.manifests import RemoteManifest, UnreadableManifest, placeholder
from sysreg_cli.registry.repository import Manifest, Repository
from sysreg_cli.registry.targets import State, Target


class Group:
    """The delete of ``targets`` by a user; without ``by`` it is the one whom the registry's token names.

    It changes the states of the targets, and gives them warnings and errors of their own.
    """

    def __init__(self, repository: Repository, targets: Sequence[Target], *, by: str = "") -> None:
        self._repository = repository
        self._client = repository.client
        self._targets = targets
        self._owners = {tag: target for target in targets for tag in target.tags}
        self._tree = {digest: manifest for target in targets for digest, manifest in target.tree.items()}
        named = {target.image.digest for target in targets}
        self._named_unreadable = {
            digest for digest in named if isinstance(self._tree.get(digest), UnreadableManifest)
        }
        self._placeholder = placeholder(
            {tag: target.stood_for(tag) for target in targets for tag in target.tags},
            by=by or self._client.user(repository.name),
        )
        # Tag to the placeholder it stands for. One that is there already is from a delete that was cut short.
        self._placeholders = {tag: its for target in targets for tag, its in target.placeholders.items()}
        self._moved: list[str] = []
        self._has_stored = False
        #: digests of the manifests that are deleted, or after ``preview`` those that would be
        self.deleted: list[str] = []
        self._handled: set[str] = set()
        # the other tags as of the last reading, the digests that they need, and whether that is all they need
        self._others: dict[str, Manifest] = {}
        self._needed: set[str] = set()
        self._all_readable = True

    def preview(self) -> None:
        """Find out which manifests ``run`` would delete."""
        self._read_tags(without=self._owners)
        self.deleted = [digest for digest in self._tree if self._is_unneeded(digest)]

    def run(self) -> None:
        """Delete, and verify. Raises SysregError if a step fails. Then the targets say how far it came."""
        try:
            self._delete_tags()
            self._delete_manifests()
            self._delete_placeholders()
        except SysregError:
            with contextlib.suppress(SysregError):
                self._undo()
            raise
        for target in self._targets:
            target.state = State.DONE
        self._verify()

    def frees(self) -> dict[str, dict[str, int]]:
        """Return for each of ``deleted`` its blobs that no other tag needs, digest to bytes."""
        used = {blob for it in self._others.values() if it for blob in it.blobs}
        named = {digest: it.blobs for digest, it in self._tree.items() if it}
        return {
            digest: {blob: size for blob, size in named[digest].items() if blob not in used}
            for digest in self.deleted
        }

    def recorded(self) -> set[str]:
        """Return the tags of whose delete a placeholder is the record."""
        return {tag for tag in self._placeholders if self._owners[tag].stood_for(tag)}

    # -- step 1: the tags

    def _delete_tags(self) -> None:
        can_delete_tags = True
        for target in self._targets:
            try:
                for tag in () if target.in_place else target.tags:
                    if tag in self._placeholders:
                        continue
                    # Try to delete the tag by its name. Distribution 3 can.
                    if can_delete_tags and self._client.delete_tag(self._image(tag=tag)):
                        if target.state is State.UNTOUCHED:
                            target.state = State.UNTAGGED
                        continue
                    can_delete_tags = False
                    self._moved.append(tag)
                    self._move(tag)
            except NotStored as error:
                if self._remove_from_storage(target):
                    continue
                if target.placeholders:
                    raise
                self._move_back([tag for tag in self._moved if tag in target.tags])
                advice = "its disk may be full: delete an image first that has no other tag"
                target.in_place = NotStored(error.message, next_step=advice)

    def _move(self, tag: str) -> None:
        """Move a tag to the placeholder."""
        # The state comes first: a request that fails may be carried out.
        self._owners[tag].state = State.HALF_DONE
        self._placeholders[tag] = self._placeholder.digest
        self._has_stored = True
        self._repository.move(tag, self._placeholder)

    def _remove_from_storage(self, target: Target) -> bool:
        """Remove the tags of ``target``, which the registry cannot move. Return whether that was possible."""
        name, storage = self._repository.name, self._repository.storage
        if storage is None:
            return False
        try:
            stored = storage.tags(name)
            for tag in target.tags.keys() & stored.keys():
                before, now = target.tags[tag], stored[tag]
                if isinstance(before, RemoteManifest) and now not in (
                    before.digest,
                    self._placeholder.digest,
                ):
                    return False  # pushed meanwhile, or the storage of another registry
                storage.remove_tag(name, tag, now)
                target.state = State.UNTAGGED
                self._placeholders.pop(tag, None)
                if tag in self._moved:
                    self._moved.remove(tag)
        except SysregError:
            return False
        return True

    def _move_back(self, tags: Sequence[str]) -> None:
        """Make moved tags stand for their old manifests again. A tag whose old one is unknown stays moved."""
        for tag in tags:
            target = self._owners[tag]
            now, before = self._repository.tag(tag), target.tags[tag]
            # otherwise the tag was not moved, or somebody pushed it again
            if now is not None and now.digest == self._placeholder.digest:
                if not isinstance(before, RemoteManifest):
                    continue
                self._repository.move(tag, before)
            self._moved.remove(tag)
            del self._placeholders[tag]
            if not target.tags.keys() & self._placeholders.keys():
                target.state = State.UNTOUCHED

    def _undo(self) -> None:
        """Move back each tag of whose manifests none is deleted."""
        deleted = set(self.deleted)
        self._move_back([tag for tag in self._moved if not deleted & self._owners[tag].tree.keys()])
        if self._has_stored and self._placeholder.digest not in self._placeholders.values():
            self._delete(self._placeholder.digest, has_tags=False)

    # -- step 2: the manifests

    def _delete_manifests(self) -> None:
        self._read_tags(without=self._owners)
        while any(self._keep_if_needed(target) for target in self._targets if not target.error):
            pass
        try:
            for target in self._targets:
                if not target.error:
                    self._delete_tree(target)
        except SysregError:
            with contextlib.suppress(SysregError):
                self._put_back()
            raise
        self._put_back()

    def _keep_if_needed(self, target: Target) -> bool:
        """Return whether ``target`` has to stay. Then its tags need their manifests, as other tags do."""
        if not self._is_unneeded(target.root):
            target.keep()
        for tag, manifest in target.tags.items() if target.error else ():
            self._add_other(tag, manifest)
        return target.error is not None

    def _delete_tree(self, target: Target) -> None:
        """Delete those manifests of ``target`` that no other tag needs.

        In place, the platforms come first, so that a tag names what is left of them until the last request.
        """
        digests = [digest for digest in target.tree if self._is_unneeded(digest)]
        for digest in digests[::-1] if target.in_place else digests:
            if digest not in self._handled:
                self._handled.add(digest)
                self._read_new_tags()
                if self._is_unneeded(digest):
                    self._delete_manifest(target, digest)
                elif digest == target.root:
                    target.keep()

    def _delete_manifest(self, target: Target, digest: str) -> None:
        try:
            deleted = self._delete(digest, has_tags=target.in_place is not None and digest == target.root)
        except TagsLeft:
            self._restore(target, digest)
            raise
        except ProtocolError as error:
            if digest == target.root or not isinstance(target.tree[digest], UnreadableManifest):
                raise
            target.warn(str(error))  # a damaged platform that the registry cannot delete stops no delete
            return
        if not deleted:
            return
        self.deleted.append(digest)
        if target.in_place:
            target.state = State.DONE if digest == target.root else State.HALF_DONE
        elif target.state is State.UNTOUCHED:
            target.state = State.UNTAGGED

    def _delete(self, digest: str, *, has_tags: bool) -> bool:
        """Delete a manifest with the tags on it. Return False if the registry does not have it.

        Raises TagsLeft if a tag is left on it, because the registry cannot read another tag.
        """
        try:
            return self._client.delete_manifest(self._image(digest=digest))
        except TagsLeft as error:
            self._finish_delete(digest, error, has_tags=has_tags)
            return True

    def _finish_delete(self, digest: str, cause: TagsLeft, *, has_tags: bool) -> None:
        """Remove the tags on a deleted manifest from the storage. Raises TagsLeft if it can't be reached."""
        unreadable = sorted(
            str(self._image(tag=tag))
            for tag, manifest in self._others.items()
            if isinstance(manifest, UnreadableManifest)
        )
        damaged = ", ".join(unreadable) or f"another tag of {self._repository.name}"
        message = f"{cause.message}: it deletes no tag while it cannot read {damaged}"
        advice = f"delete {damaged} first" if unreadable else "see the warnings of registry-garbage-collect"
        storage = self._repository.storage
        if storage is None:
            raise TagsLeft(message, next_step=advice) from cause
        try:
            if has_tags:
                storage.finish_delete(self._repository.name, digest)
        except SysregError as error:
            raise TagsLeft(f"{message}; nor did the agent: {error.message}", next_step=advice) from error

    def _restore(self, target: Target, digest: str) -> None:
        """Put ``digest`` back, whose tags were not deleted, and the platforms that were deleted before."""
        for part, manifest in list(target.tree.items())[::-1]:
            if isinstance(manifest, RemoteManifest) and (part == digest or part in self.deleted):
                with contextlib.suppress(SysregError, ValueError):
                    self._client.put_manifest(self._image(digest=part), manifest)
                    self.deleted.remove(part)
        if target.in_place and not target.tree.keys() & set(self.deleted):
            target.state = State.UNTOUCHED

    def _put_back(self) -> None:
        """Put back what a push has begun to share meanwhile: platforms before the indexes that name them."""
        if not self.deleted:
            return
        before = self._others
        self._read_tags(without={tag for target in self._targets if target.in_place for tag in target.tags})
        self._warn_of_lost_tags(before)
        lost: dict[str, RemoteManifest] = {}
        for digest in self.deleted:
            manifest = self._tree[digest]
            if isinstance(manifest, RemoteManifest) and not self._is_unneeded(digest):
                lost[digest] = manifest
        while lost:
            for digest in [digest for digest in lost if not lost.keys() & lost[digest].children]:
                manifest = lost.pop(digest)
                try:
                    self._client.put_manifest(self._image(digest=digest), manifest)
                except SysregError as error:
                    self._report_loss(digest, error)
                else:
                    self.deleted.remove(digest)

    def _warn_of_lost_tags(self, before: Mapping[str, Manifest]) -> None:
        """Name other tags that are gone. A push may have moved them to an image right before its delete."""
        for tag in sorted(before.keys() - self._others.keys() - self._owners.keys()):
            manifest = before[tag]
            if not (isinstance(manifest, RemoteManifest) and manifest.is_placeholder):
                for target in self._targets:
                    target.warn(f"{self._image(tag=tag)} is gone: push it again if nobody else deleted it")

    def _report_loss(self, digest: str, cause: SysregError) -> None:
        tags = [
            tag for tag, other in self._others.items() if digest in (self._repository.needed_by(other) or ())
        ]
        image = self._image(tag=tags[0]) if tags else self._image()
        for target in self._targets:
            if digest in target.tree:
                target.error = ProtocolError(
                    f"{image} was pushed meanwhile and lacks {digest}, which is deleted: {cause.message}",
                    next_step=f"push {image} again",
                )

    # -- step 3: the placeholders

    def _delete_placeholders(self) -> None:
        others = {
            manifest.digest for tag, manifest in self._others.items() if manifest and tag not in self._owners
        }
        for tag, digest in list(self._placeholders.items()):
            # Tags that this delete does not concern stand for the same placeholder, and must not go with it.
            if digest in others and digest != self._placeholder.digest:
                now = self._repository.tag(tag)
                if now is not None and now.digest == digest:
                    self._move(tag)
        placeholders = {
            *self._placeholders.values(),
            *([self._placeholder.digest] if self._has_stored else []),
        }
        for digest in sorted(placeholders - others):
            self._delete(digest, has_tags=digest in self._placeholders.values())

    # -- step 4: verify

    def _verify(self) -> None:
        listed = set(self._client.tags(self._repository.name))
        for tag, target in self._owners.items():
            if tag in listed and not target.error:
                self._verify_tag(target, tag)

    def _verify_tag(self, target: Target, tag: str) -> None:
        image, now, before = self._image(tag=tag), self._repository.tag(tag), target.tags[tag]
        if now is None and tag not in self._client.tags(self._repository.name):
            return
        used = {*self._placeholders.values(), before.digest if before else ""}
        still = ProtocolError(
            f"{self._client.where}: {image} is still there after the registry said it is deleted",
            next_step="run the same command again",
        )
        if now is None:
            target.error = self._remove_remains(tag, still)
        elif now.digest in used:
            target.error = still
        else:
            target.warn(f"{image} was pushed again meanwhile, and stays")

    def _remove_remains(self, tag: str, otherwise: SysregError) -> SysregError | None:
        """Remove a tag without a link from the storage. Return the error, ``otherwise`` if nobody can try.

        Where a directory of a tag belongs to another user, the registry removes the link alone.
        """
        storage = self._repository.storage
        if storage is None:
            return otherwise
        try:
            storage.remove_tag(self._repository.name, tag, "")
        except (Conflict, NotSupported, ProtocolError, Unavailable):
            return otherwise
        except SysregError as error:
            return error
        return None

    # -- what other tags need

    def _read_tags(self, without: Collection[str]) -> None:
        self._others, self._needed, self._all_readable = {}, set(), True
        # The digest of the placeholder is unique.
        moved = dict.fromkeys(self._moved, self._placeholder.digest)
        for tag, manifest in self._repository.tags(without, moved=moved).items():
            self._add_other(tag, manifest)

    def _read_new_tags(self) -> None:
        """Read the tags that are new since the last reading, but not those that were moved."""
        for tag in self._client.tags(self._repository.name):
            if tag not in self._others and tag not in self._owners:
                self._add_other(tag, self._repository.tag(tag))

    def _add_other(self, tag: str, manifest: Manifest) -> None:
        self._others[tag] = manifest
        needed = self._repository.needed_by(manifest)
        if needed is not None:
            self._needed |= needed
            return
        self._all_readable = False
        for target in self._targets:
            target.warn(f"{self._image(tag=tag)} cannot be read, and may need the image, which stays")

    def _is_unneeded(self, digest: str) -> bool:
        """Whether a manifest exists that no other tag needs.

        A tag that cannot be read may need any, but not one that cannot be read itself and was named.
        """
        if not self._all_readable and digest not in self._named_unreadable:
            return False
        return self._tree.get(digest) is not None and digest not in self._needed

    def _image(self, *, tag: str = "", digest: str = "") -> ImageReference:
        return ImageReference(self._repository.name, tag, digest)
