"""Delete one tag, or one digest, and nothing that another tag needs.

1. *Delete the tags.* Distribution 3 deletes a tag by its name. Distribution 2.8 answers that with 400: it
   deletes only digests, each with every tag on it. There the tag is first moved to a placeholder manifest,
   which no other tag can share.
2. *Delete the manifests* that the tags stood for, an image or an index with its platforms, as far as no other
   tag needs them.
3. *Delete the placeholder*, and with it the tags that were moved to it.
4. *Verify* that the tags are gone.

The placeholder lists the manifests of step 2, so it is the journal of the delete. If the delete is killed
between any two requests, every other tag is whole, and the same delete again finishes it. A full disk accepts
no placeholder. There an image is deleted in place, by its digest, if no other tag needs it.

A tag whose manifest the registry cannot read is deleted in the same way. While another tag cannot be read,
step 2 is left out: that tag may need the manifests.

A registry cannot be locked against pushes. Therefore all tags are read right before and right after step 2,
and a platform that a push began to share in between is put back, byte for byte. One gap remains: a push of
the same image under another tag that begins and ends between the first of these reads and the delete itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum

from sysreg_cli.errors import Conflict, NotFound, NotStored, ProtocolError, SysregError
from sysreg_cli.reference import ImageReference
from sysreg_cli.registry.client import RegistryClient
from sysreg_cli.registry.manifests import RemoteManifest, UnreadableManifest, placeholder
from sysreg_cli.registry.repository import Manifest, Repository


@dataclass(frozen=True, slots=True)
class Deletion:
    """What was deleted, or what would be."""

    #: what the tag stood for; empty for a tag whose manifest is missing or cannot be read
    digest: str
    tags: tuple[str, ...]
    #: digests of the manifests that were deleted with the tags
    manifests: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    #: blobs that no tag of this repository needs any more, digest to bytes; other repositories may need them
    frees: Mapping[str, int] = field(default_factory=dict)


def delete_image(
    client: RegistryClient, image: ImageReference, *, all_tags: bool = False, dry_run: bool = False
) -> Deletion:
    """Delete the tag of ``image`` and no other, or its digest with the tag on it; ``all_tags``: with several.

    Raises NotFound; Conflict for a digest with several tags without ``all_tags``, or one that another tag may
    need; NotSupported (read-only, or deletes switched off); and what RegistryClient raises. Then nothing has
    changed, unless the message says what to do. A KeyboardInterrupt has such a message too.
    """
    repository = Repository(client, image)
    delete = _delete_of_tag(repository) if image.tag else _delete_of_digest(repository, all_tags=all_tags)
    return delete.preview() if dry_run else delete.run()


def _delete_of_tag(repository: Repository) -> _Delete:
    client, image = repository.client, repository.image
    manifest = client.manifest(image)
    # 2.8 keeps a tag whose manifest is gone. It answers 404 as for an unknown tag, but lists the tag.
    if not isinstance(manifest, RemoteManifest) and image.tag not in client.tags(image.repository):
        raise NotFound(f"{image}: there is no such image in {client.where}")
    return _Delete(repository, {image.tag: manifest}, repository.tree(manifest))


def _delete_of_digest(repository: Repository, *, all_tags: bool) -> _Delete:
    client, image = repository.client, repository.image
    root = client.manifest(image)
    tagged = repository.tags()
    tags = {tag: tagged[tag] for tag in tagged if repository.is_on(tag, tagged[tag], image.digest)}
    if root is None and not tags:
        raise NotFound(f"{image}: there is no such image in {client.where}")
    for tag in (tag for tag in tagged if tag not in tags):
        other = image.with_tag(tag)
        needed = repository.needed_by(tagged[tag])
        if needed is None:
            raise Conflict(f"{other} cannot be read, and may need {image}", next_step=f"delete {other} first")
        if image.digest in needed:
            raise Conflict(
                f"{image} is a part of the image {other}", next_step=f"to delete all of it, delete {other}"
            )
    if len(tags) > 1 and not all_tags:
        raise Conflict(
            f"{image} has several tags: {', '.join(sorted(tags))}",
            next_step="delete one of them by its name, or give --yes to delete them all",
        )
    return _Delete(repository, tags, repository.tree(*([root] if root else tags.values())))


class _State(Enum):
    """How far a delete has changed the registry. The value says what to do if it stops there."""

    UNTOUCHED = ""
    #: a tag stands for the placeholder, or for an image some of whose platforms are deleted
    HALF_DONE = "the delete is half done: run the same command again to finish it"
    #: the tags are gone, and nothing lists the manifests that are left
    UNTAGGED = "the tag is gone; registry-garbage-collect --delete-untagged frees its image"


class _Delete:
    """One delete of ``tags``, and of the manifests in ``tree`` that no other tag needs."""

    def __init__(
        self, repository: Repository, tags: Mapping[str, Manifest], tree: Mapping[str, Manifest]
    ) -> None:
        self._repository = repository
        self._client = repository.client
        self._image = repository.image
        self._tags = dict(sorted(tags.items()))
        self._tree = tree
        self._root = next(iter(tree), "")
        self._placeholder = placeholder(tuple(tree))
        # A placeholder on a tag is from a delete that was cut short. It is used again, and deleted at last.
        self._placeholders = {
            manifest.digest
            for manifest in tags.values()
            if isinstance(manifest, RemoteManifest) and manifest.replaces is not None
        }
        self._resumed = bool(self._placeholders)
        self._state = _State.HALF_DONE if self._resumed else _State.UNTOUCHED
        self._moved: list[ImageReference] = []
        self._deleted: list[str] = []
        #: the manifests of the tags that remain, as of the last reading
        self._remaining: Mapping[str, Manifest] = {}
        self._warnings: dict[str, None] = {}
        if UnreadableManifest() in tags.values():
            self._warn(
                "its manifest cannot be read, and stays: if registry-garbage-collect stops at a damaged"
                f" digest, delete {self._image.repository}@DIGEST"
            )

    def preview(self) -> Deletion:
        """Return what ``run`` would delete."""
        return self._result(self._unneeded(without=self._tags))

    def run(self) -> Deletion:
        """Delete, and verify. Raises what ``delete_image`` raises."""
        try:
            self._delete()
        except SysregError as error:
            if self._state is _State.UNTOUCHED:
                raise
            raise type(error)(error.message, next_step=self._state.value) from error
        except KeyboardInterrupt:
            # Nothing is moved back: the registry may still be carrying out the last request.
            if self._state is _State.UNTOUCHED:
                raise
            names = ", ".join(str(self._image.with_tag(tag)) for tag in self._tags) or str(self._image)
            raise KeyboardInterrupt(f"interrupted: {names}: {self._state.value}") from None
        self._verify()
        return self._result(self._deleted)

    def _delete(self) -> None:
        root = self._tree.get(self._image.digest)
        if isinstance(root, UnreadableManifest) and not self._resumed:
            # Its tags could not be moved back. One request deletes it, and them.
            if not self._delete_in_place():
                raise Conflict(f"{self._image} is now needed by another tag")
            return
        try:
            self._delete_tags()
            self._delete_manifests()
            self._delete_placeholders()
        except SysregError as error:
            self._move_back()
            if self._state is not _State.UNTOUCHED or not isinstance(error, NotStored):
                raise
            if not self._delete_in_place():
                advice = "its disk may be full: delete an image first that has no other tag"
                raise NotStored(error.message, next_step=advice) from error

    def _delete_tags(self) -> None:
        for tag, manifest in self._tags.items():
            image = self._image.with_tag(tag)
            if manifest is not None and manifest.digest in self._placeholders:
                continue
            # Try to delete the tag by its name. Distribution 3 can.
            if not self._moved and self._client.delete_tag(image):
                if self._state is _State.UNTOUCHED:
                    self._state = _State.UNTAGGED
                continue
            # Fall back to the placeholder. The state comes first: a request that fails may be carried out.
            self._state = _State.HALF_DONE
            self._moved.append(image)
            self._placeholders.add(self._placeholder.digest)
            self._client.put_manifest(image, self._placeholder)

    def _delete_manifests(self) -> None:
        for digest in self._unneeded():
            self._delete_manifest(digest, then=_State.UNTAGGED)
        if not self._deleted:
            return
        # Put back what a push has begun to share meanwhile: platforms before the index that names them.
        self._remaining = self._repository.tags()
        needed = [self._repository.needed_by(manifest) for manifest in self._remaining.values()]
        for digest in self._deleted[::-1]:
            manifest = self._tree[digest]
            is_needed = any(digests is None or digest in digests for digests in needed)
            if is_needed and isinstance(manifest, RemoteManifest):
                self._client.put_manifest(self._image.with_digest(digest), manifest)
                self._deleted.remove(digest)

    def _delete_placeholders(self) -> None:
        for digest in self._placeholders:
            self._client.delete_manifest(self._image.with_digest(digest))

    def _move_back(self) -> None:
        """Make every moved tag stand for its old manifest again, unless a manifest is deleted already."""
        if not self._moved or self._deleted or self._resumed:
            return
        try:
            for image in self._moved:
                now = self._client.manifest(image)
                if now is None or now.digest != self._placeholder.digest:
                    continue  # the tag was not moved, or somebody pushed it again
                before = self._tags[image.tag]
                if not isinstance(before, RemoteManifest):
                    return
                self._client.put_manifest(image, before)
            self._client.delete_manifest(self._image.with_digest(self._placeholder.digest))
        except SysregError:
            return
        self._state = _State.UNTOUCHED

    def _delete_in_place(self) -> bool:
        """Delete the manifests by digest, and with the root the tags. Nothing has to be stored for that.

        The platforms come first, so that the tag names what is left of them until the last request. Return
        False, and delete nothing, if another tag may need the image.
        """
        to_delete = self._unneeded(without=self._tags)
        if self._root not in to_delete:
            return False
        for digest in reversed(to_delete):
            self._delete_manifest(digest, then=_State.HALF_DONE)
        return True

    def _verify(self) -> None:
        for tag, before in self._tags.items():
            image = self._image.with_tag(tag)
            now = self._client.manifest(image)
            if now is None:
                continue
            if now.digest in self._placeholders or (before is not None and now.digest == before.digest):
                raise ProtocolError(
                    f"{self._client.where}: {image} is still there after the registry said it is deleted",
                    next_step="run the same command again",
                )
            self._warn(f"{image} was pushed again meanwhile, and stays")

    def _delete_manifest(self, digest: str, *, then: _State) -> None:
        try:
            deleted = self._client.delete_manifest(self._image.with_digest(digest))
        except ProtocolError as error:
            if digest == self._root or not isinstance(self._tree[digest], UnreadableManifest):
                raise
            self._warn(str(error))  # a damaged platform that the registry cannot delete stops no delete
            return
        if deleted:
            self._deleted.append(digest)
            if self._state is _State.UNTOUCHED:
                self._state = then

    def _unneeded(self, without: Collection[str] = ()) -> tuple[str, ...]:
        """Return the manifests of the tree that no tag needs, not counting the tags ``without``.

        Return none if a tag cannot be read.
        """
        tags = self._repository.tags()
        self._remaining = {tag: manifest for tag, manifest in tags.items() if tag not in without}
        needed: set[str] = set()
        for tag, manifest in self._remaining.items():
            digests = self._repository.needed_by(manifest)
            if digests is None:
                self._warn(f"{self._image.with_tag(tag)} cannot be read, and may need the image, which stays")
                return ()
            needed |= digests
        return tuple(digest for digest, manifest in self._tree.items() if manifest and digest not in needed)

    def _warn(self, text: str) -> None:
        self._warnings[text] = None

    def _result(self, manifests: Collection[str]) -> Deletion:
        used = {blob for manifest in self._remaining.values() for blob in _blobs(manifest)}
        freed = [entry for digest in manifests for entry in _blobs(self._tree[digest]).items()]
        return Deletion(
            self._root,
            tuple(self._tags),
            tuple(manifests),
            tuple(self._warnings),
            {blob: size for blob, size in freed if blob not in used},
        )


def _blobs(manifest: Manifest) -> Mapping[str, int]:
    return manifest.blobs if isinstance(manifest, RemoteManifest) else {}
