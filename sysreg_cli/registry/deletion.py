"""Delete tags and digests, and nothing that another tag needs.

All arguments of one repository are deleted together, in four steps (group.py):

1. *Delete the tags.* Distribution 3 deletes a tag by its name. Distribution 2.8 answers that with 400: it
   deletes only digests, each with every tag on it. There the tags are first moved to a placeholder manifest,
   which no other tag can share.
2. *Delete the manifests* that the tags stood for, images or indexes with their platforms, as far as no other
   tag needs them.
3. *Delete the placeholder*, and with it the tags that were moved to it.
4. *Verify* that the tags are gone.

The placeholder lists for each tag the manifests that it stood for, so it is the journal of the delete, and
afterwards, as long as its blob is stored, the record by which the tags can be restored. If the
delete is killed between any two requests, every other tag is whole, and the same delete again finishes it. A
delete of some of these tags finishes those. A full disk accepts no placeholder, nor does something in the
place of a file of the tag. There the tag is removed from the storage. If that cannot be reached, an image is
deleted in place, by its digest, if no other tag needs it.

A tag whose manifest the registry cannot read is deleted in the same way. While another tag cannot be read,
step 2 is left out: that tag may need the manifests. Beside a damaged tag link, distribution 2.8 deletes the
placeholder, but not its tags: then they are removed from the storage. If a step fails for several arguments,
each is tried again alone, so that the damage of one does not stop the others.

A registry cannot be locked against pushes. Therefore all other tags are read right before step 2, new tags
right before the delete of each manifest, and all tags once more after the last one. A manifest that a push
began to share in between is put back, byte for byte. One gap remains: a push of the same image under another
tag that ends right before the delete of that image, or that moves an existing tag between the first of these
readings and the delete. The delete of the image then takes that tag, too; a warning names an existing one.

To delete k of n tags costs three requests for each: move the tag, list the tags, delete the manifest (and the
last two for each platform). The first reading costs n requests. So does the second, which transfers only what
has changed; with the storage it costs one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sysreg_cli.errors import NotFound, SysregError
from sysreg_cli.reference import ImageReference
from sysreg_cli.registry.client import RegistryClient
from sysreg_cli.registry.group import Group
from sysreg_cli.registry.repository import Repository, Storage
from sysreg_cli.registry.targets import State, Target, find_targets

# The placeholder has to list their manifests in the 4 MiB that the registry takes.
_MAX_GROUP = 1000


@dataclass(frozen=True, slots=True)
class Deletion:
    """What was deleted, or what would be."""

    #: what the tag stood for; empty for a tag whose manifest is missing or cannot be read
    digest: str
    tags: tuple[str, ...]
    #: digests of the manifests that were deleted with the tags
    manifests: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    #: whether a record is left by which the tags can be restored
    recorded: bool = False
    #: blobs that no tag of this repository needs any more, digest to bytes, 0 if the manifest does not tell;
    #: other repositories may need them
    frees: Mapping[str, int] = field(default_factory=dict)


_Outcomes = dict[ImageReference, Deletion | SysregError]


def delete_image(
    client: RegistryClient,
    image: ImageReference,
    *,
    all_tags: bool = False,
    dry_run: bool = False,
    storage: Storage | None = None,
    by: str = "",
) -> Deletion:
    """Delete the tag of ``image`` and no other, or its digest with the tag on it; ``all_tags``: with several.

    Raises NotFound; Conflict for a digest with several tags without ``all_tags``, or one that another tag may
    need; NotSupported (read-only, or deletes switched off); and what RegistryClient raises. Then nothing has
    changed, unless the message says what to do. A KeyboardInterrupt has such a message too.
    """
    ((_, outcome),) = delete_images(
        client, [image], all_tags=all_tags, dry_run=dry_run, storage=storage, by=by
    )
    if isinstance(outcome, SysregError):
        raise outcome
    return outcome


def delete_images(
    client: RegistryClient,
    images: Sequence[ImageReference],
    *,
    all_tags: bool = False,
    dry_run: bool = False,
    storage: Storage | None = None,
    by: str = "",
) -> Iterator[tuple[ImageReference, Deletion | SysregError]]:
    """Delete each of ``images`` as ``delete_image`` does, those of one repository together.

    Yield each with what was deleted, or with the error, in the order given. ``storage`` reads the tags with
    fewer requests, and removes a tag that the registry does not delete. ``by`` is the user who deletes,
    if that is another one than the registry's token names.
    """
    waiting: dict[str, list[ImageReference]] = {}
    for image in dict.fromkeys(images):
        waiting.setdefault(image.repository, []).append(image)
    outcomes: _Outcomes = {}
    for image in images:
        if image not in outcomes:
            group = waiting[image.repository][:_MAX_GROUP]
            del waiting[image.repository][:_MAX_GROUP]
            repository = Repository(client, image.repository, storage)
            targets, errors = find_targets(repository, group, all_tags=all_tags)
            outcomes |= errors
            outcomes |= _delete(repository, targets, all_tags=all_tags, dry_run=dry_run, by=by)
        yield image, outcomes[image]


def _delete(
    repository: Repository, targets: list[Target], *, all_tags: bool, dry_run: bool, by: str
) -> _Outcomes:
    outcomes: _Outcomes = {}
    if not targets:
        return outcomes
    group = Group(repository, targets, by=by)
    try:
        try:
            group.preview() if dry_run else group.run()
            return _outcomes(group, targets)
        except SysregError as error:
            if len(targets) == 1 or all(target.state is State.DONE for target in targets):
                return {target.image: target.explain(error) for target in targets}
        for number, target in enumerate(targets):
            alone, errors = find_targets(repository, [target.image], all_tags=all_tags)
            if target.state is not State.UNTOUCHED and isinstance(errors.get(target.image), NotFound):
                alone, errors = [target], {}  # its tag is deleted, but not yet what it stood for
            targets[number : number + 1] = alone or [target]
            outcomes |= {image: target.explain(error) for image, error in errors.items()}
            outcomes |= _delete(repository, alone, all_tags=all_tags, dry_run=dry_run, by=by)
    except KeyboardInterrupt:
        # Nothing is moved back: the registry may still be carrying out the last request.
        raise _interrupt([target for target in targets if target.image not in outcomes]) from None
    return outcomes


def _outcomes(group: Group, targets: Sequence[Target]) -> _Outcomes:
    # What several of them stood for is deleted with the last one.
    owners = {digest: target.image for target in targets for digest in target.tree}
    manifests: dict[ImageReference, list[str]] = {target.image: [] for target in targets}
    for digest in group.deleted:
        manifests[owners[digest]].append(digest)
    frees = group.frees()
    recorded = group.recorded()
    # The tag of an argument may be deleted with a digest before it.
    errors = {tag: target.error for target in targets for tag in target.tags}
    return {
        target.image: target.error
        or errors.get(target.image.tag)
        or Deletion(
            target.root,
            (target.image.tag,) if target.image.tag else tuple(target.tags),
            tuple(manifests[target.image]),
            tuple(target.warnings),
            recorded.issuperset([target.image.tag] if target.image.tag else target.tags or [""]),
            {blob: size for digest in manifests[target.image] for blob, size in frees[digest].items()},
        )
        for target in targets
    }


def _interrupt(targets: Collection[Target]) -> KeyboardInterrupt:
    """Return a KeyboardInterrupt that says which of ``targets`` are not finished, and what finishes them."""
    unfinished: dict[State, list[str]] = {}
    for target in targets:
        names = [str(target.image.with_tag(tag)) for tag in target.tags] or [str(target.image)]
        unfinished.setdefault(target.state, []).extend(names)
    unfinished.pop(State.UNTOUCHED, None)
    unfinished.pop(State.DONE, None)
    texts = [f"{', '.join(names)}: {state.value}" for state, names in unfinished.items()]
    return KeyboardInterrupt(f"interrupted: {'; '.join(texts)}") if texts else KeyboardInterrupt()
