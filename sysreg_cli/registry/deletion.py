"""Deleting one tag, or one digest, and nothing that anything else needs.

Distribution 2.8 deletes by digest only, and with the digest every tag on it. So the tag is first moved to a
throw-away manifest that no other tag can share; deleting the throw-away's digest then deletes that tag alone.
Distribution 3 deletes a tag by its name; it is asked first (2.8 answers 400, a registry that can't delete
405). A full disk takes no throw-away: there an image is deleted by its digest, if no other tag reaches it.

What the tag stood for, an image or an index with its platforms, is *released*: deleted too, as far as no
other tag reaches it. The throw-away goes last and names what is to be released, so that it is the journal of
the delete: killed between any two requests, every other tag is whole, and the same delete again goes on where
this one stopped.

The registry can't be locked against pushes. Therefore all tags are read right before and right after the
releases, and a platform that a push began to share meanwhile is put back, byte for byte. What stays open is a
push of the same image under another tag that begins and ends between that look and the delete itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sysreg_cli.errors import Conflict, NotFound, NotStored, ProtocolError, SysregError
from sysreg_cli.registry.client import RegistryClient, in_parallel, join
from sysreg_cli.registry.manifests import Manifest, throw_away

_HALF_DONE = "the delete is half done: run the same command again to finish it"
_UNTAGGED = "the tag is gone; registry-garbage-collect --delete-untagged frees its image"


@dataclass(frozen=True, slots=True)
class Deletion:
    """What was deleted, or what would be."""

    #: what the tag stood for; empty for a tag whose manifest was gone
    digest: str
    tags: tuple[str, ...]
    #: digests of the manifests released with it
    manifests: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    #: blobs that no tag of this repository needs any more, digest -> bytes; other repositories may need them
    frees: Mapping[str, int] = field(default_factory=dict)


def delete_tag(client: RegistryClient, repository: str, tag: str, *, dry_run: bool = False) -> Deletion:
    """Delete ``tag`` and no other.

    Raises NotFound, NotSupported (read-only, or deletes switched off) and what RegistryClient raises; then
    nothing has changed, unless the message says to run the command again. A KeyboardInterrupt has such a
    message too.
    """
    manifest = client.manifest(repository, tag)
    if manifest is None and tag not in client.tags(repository):
        raise NotFound(f"{repository}:{tag}: there is no such image in {client.where}")
    family = _family(client, repository, manifest)
    if dry_run:
        return Deletion(next(iter(family), ""), (tag,), _released(client, repository, family, without=(tag,)))
    return _delete(client, repository, {tag: manifest}, family)


def delete_digest(
    client: RegistryClient, repository: str, digest: str, *, all_tags: bool = False, dry_run: bool = False
) -> Deletion:
    """Delete the manifest ``digest`` with the tag on it; with several of them if ``all_tags`` says so.

    Raises Conflict for several tags without ``all_tags``, and for a platform of a tagged index; else as
    delete_tag.
    """
    family = _family(client, repository, client.manifest(repository, digest))
    tagged = _read_tags(client, repository)
    tags = {tag: manifest for tag, manifest in tagged.items() if _stands_for(manifest, digest)}
    if not family:
        for manifest in tags.values():
            family |= _family(client, repository, manifest)
    if not family and not tags:
        raise NotFound(f"{repository}@{digest}: there is no such image in {client.where}")
    for tag, manifest in tagged.items():
        if tag not in tags and digest in _reached(client, repository, manifest):
            raise Conflict(
                f"{repository}@{digest} is a part of the image {repository}:{tag}",
                next_step=f"to delete all of it, delete {repository}:{tag}",
            )
    if len(tags) > 1 and not all_tags:
        raise Conflict(
            f"{repository}@{digest} has several tags: {', '.join(sorted(tags))}",
            next_step="delete one of them by its name, or give --yes to delete them all",
        )
    if dry_run:
        names = tuple(sorted(tags))
        return Deletion(digest, names, _released(client, repository, family, without=names))
    return _delete(client, repository, tags, family)


def _delete(
    client: RegistryClient,
    repository: str,
    tags: dict[str, Manifest | None],
    family: dict[str, Manifest | None],
) -> Deletion:
    """Delete ``tags``, and of ``family`` what nothing else reaches."""
    # A throw-away on a tag is of a delete that was cut short: it is used again, and goes in the end.
    throw_aways = {m.digest for m in tags.values() if m is not None and m.releases is not None}
    resumed = bool(throw_aways)
    marker = throw_away(tuple(family))
    moved: dict[str, Manifest | None] = {}
    by_name: list[str] = []
    released: list[str] = []
    frees: Mapping[str, int] | None = None
    what = ", ".join(join(repository, one) for one in sorted(tags) or family)
    with _told_if_interrupted(what, resumed, moved, by_name, released):
        try:
            for tag, manifest in sorted(tags.items()):
                if manifest is not None and manifest.digest in throw_aways:
                    continue
                if not moved and client.delete_tag(repository, tag):
                    by_name.append(tag)
                    continue
                throw_aways.add(marker.digest)
                moved[tag] = manifest
                client.put_manifest(repository, tag, marker)
            frees = _release(client, repository, family, released)
            for digest in throw_aways:
                client.delete_manifest(repository, digest)
        except SysregError as error:
            if resumed or (moved and (released or not _move_back(client, repository, moved, marker))):
                error.next_step = _HALF_DONE
                raise
            if by_name or released:
                error.next_step = _UNTAGGED
                raise
            if not isinstance(error, NotStored):
                raise
            _delete_in_place(client, repository, tags, family, released, error)
    if frees is None:
        frees = _out_of_use(family, released, _read_tags(client, repository).values())
    return Deletion(
        next(iter(family), ""),
        tuple(sorted(tags)),
        tuple(released),
        _verify(client, repository, tags, throw_aways),
        frees,
    )


@contextlib.contextmanager
def _told_if_interrupted(
    what: str, resumed: bool, moved: Collection[str], by_name: Collection[str], released: Collection[str]
) -> Iterator[None]:
    """Let a Ctrl-C say what it leaves behind.

    Nothing is moved back: the registry may still be about to do what it was asked last.
    """
    try:
        yield
    except KeyboardInterrupt:
        if resumed or moved:
            left = _HALF_DONE
        elif by_name or released:
            left = _UNTAGGED
        else:
            raise
        raise KeyboardInterrupt(f"interrupted: {what}: {left}") from None


def _delete_in_place(
    client: RegistryClient,
    repository: str,
    tags: Mapping[str, Manifest | None],
    family: dict[str, Manifest | None],
    released: list[str],
    error: SysregError,
) -> None:
    """Delete by digest, with nothing to be stored, what no tag but ``tags`` reaches.

    The platforms go first, so that the tag still names what is left of them until it goes itself. Raises
    ``error`` if another tag needs the image.
    """
    doomed = _released(client, repository, family, without=tuple(tags))
    if not doomed or doomed[0] != next(iter(family)):
        error.next_step = "its disk may be full: delete an image first that has no other tag"
        raise error
    try:
        for digest in reversed(doomed):
            if client.delete_manifest(repository, digest):
                released.append(digest)
    except SysregError as failure:
        if released:
            failure.next_step = _HALF_DONE
        raise


def _move_back(
    client: RegistryClient, repository: str, moved: dict[str, Manifest | None], marker: Manifest
) -> bool:
    """Whether every moved tag stands for its old manifest again, and the throw-away is gone."""
    try:
        for tag, manifest in moved.items():
            current = client.manifest(repository, tag)
            if current is None or current.digest != marker.digest:
                continue  # never moved, or somebody pushed it anew
            if manifest is None:
                return False
            client.put_manifest(repository, tag, manifest)
        client.delete_manifest(repository, marker.digest)
    except SysregError:
        return False
    return True


def _release(
    client: RegistryClient, repository: str, family: dict[str, Manifest | None], released: list[str]
) -> dict[str, int]:
    """Delete what no tag reaches of ``family``, and add each to ``released`` when it is gone.

    Returns the blobs that went out of use with them, as far as the tags' own manifests tell.
    """
    for digest in _released(client, repository, family):
        if client.delete_manifest(repository, digest):
            released.append(digest)
    if not released:
        return {}
    staying = _read_tags(client, repository).values()
    needed = _reached(client, repository, *staying)
    for digest in reversed(released):  # platforms before the index that names them
        manifest = family.get(digest)
        if digest in needed and manifest is not None:
            client.put_manifest(repository, digest, manifest)
            released.remove(digest)
    return _out_of_use(family, released, staying)


def _out_of_use(
    family: Mapping[str, Manifest | None], released: Sequence[str], staying: Collection[Manifest | None]
) -> dict[str, int]:
    """The blobs of what was released that no tag's own manifest needs, digest to size."""
    used = {blob for manifest in staying if manifest for blob in manifest.blobs}
    gone = (manifest for digest in released if (manifest := family.get(digest)))
    return {blob: size for manifest in gone for blob, size in manifest.blobs.items() if blob not in used}


def _released(
    client: RegistryClient,
    repository: str,
    family: dict[str, Manifest | None],
    without: Sequence[str] = (),
) -> tuple[str, ...]:
    """The part of ``family`` that no tag reaches, not counting the tags ``without``."""
    others = (m for tag, m in _read_tags(client, repository).items() if tag not in without)
    needed = _reached(client, repository, *others)
    return tuple(digest for digest, manifest in family.items() if manifest and digest not in needed)


def _verify(
    client: RegistryClient,
    repository: str,
    tags: dict[str, Manifest | None],
    throw_aways: set[str],
) -> tuple[str, ...]:
    """Look at the live registry; the warnings name tags that were pushed again meanwhile."""
    warnings = []
    for tag, before in tags.items():
        now = client.manifest(repository, tag)
        if now is None:
            continue
        if now.digest in throw_aways or (before is not None and now.digest == before.digest):
            raise ProtocolError(
                f"{client.where}: {repository}:{tag} is still there after the registry said it is deleted",
                next_step="run the same command again",
            )
        warnings.append(f"{repository}:{tag} was pushed again meanwhile, and stays")
    return tuple(warnings)


def _stands_for(manifest: Manifest | None, digest: str) -> bool:
    """Whether a tag with this manifest is one on ``digest``, or was before a delete that was cut short."""
    if manifest is None:
        return False
    return manifest.digest == digest or bool(manifest.releases and manifest.releases[0] == digest)


def _family(client: RegistryClient, repository: str, manifest: Manifest | None) -> dict[str, Manifest | None]:
    """A manifest and, if it is an index, its parts at any depth, itself first; what is missing is None.

    For a throw-away: what its tag stood for.
    """
    if manifest is None:
        return {}
    family: dict[str, Manifest | None]
    if manifest.releases is not None:
        family, waiting = {}, list(manifest.releases)
    else:
        family, waiting = {manifest.digest: manifest}, list(manifest.children)
    while waiting:
        digest = waiting.pop(0)
        if digest not in family:
            family[digest] = part = client.manifest(repository, digest)
            waiting += part.children if part else ()
    return family


def _read_tags(client: RegistryClient, repository: str) -> dict[str, Manifest | None]:
    tags = client.tags(repository)
    return dict(zip(tags, in_parallel(lambda tag: client.manifest(repository, tag), tags), strict=True))


def _reached(client: RegistryClient, repository: str, *manifests: Manifest | None) -> set[str]:
    """The digests of ``manifests``, and of all they name, through indexes in indexes."""
    reached: set[str] = set()
    for manifest in manifests:
        if manifest is not None and manifest.digest not in reached:
            reached.add(manifest.digest)
            reached.update(manifest.children)
            for digest in manifest.nested:
                reached |= _reached(client, repository, client.manifest(repository, digest))
    return reached
