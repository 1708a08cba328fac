"""What each argument of a delete means in its repository. Reads only."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from sysreg_cli.errors import Conflict, NotStored, ProtocolError, SysregError, TagsLeft
from sysreg_cli.reference import ImageReference, unknown_image
from sysreg_cli.registry.manifests import RemoteManifest, UnreadableManifest
from sysreg_cli.registry.repository import Manifest, Repository


class State(Enum):
    """How far a delete has changed the registry. The value says what to do if it stops there."""

    UNTOUCHED = ""
    #: a tag stands for the placeholder, or for an image some of whose platforms are deleted
    HALF_DONE = "the delete is half done: run the same command again to finish it"
    #: the tags are gone, and nothing lists the manifests that are left
    UNTAGGED = "the tag is gone; registry-garbage-collect --delete-untagged frees its image"
    DONE = "the delete is done, but not verified: see system registry-image-tags"


@dataclass
class Target:
    """One argument of a delete: the tags to delete, and the manifests that they stand for."""

    image: ImageReference
    #: tag to what it stands for, without the tags that an earlier argument deletes
    tags: Mapping[str, Manifest]
    #: digest to manifest, the root first
    tree: Mapping[str, Manifest]
    state: State = State.UNTOUCHED
    #: set if the tags are deleted with their manifest instead of moved: the error if the manifest has to stay
    in_place: SysregError | None = None
    error: SysregError | None = None
    warnings: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.placeholders:
            self.state = State.HALF_DONE
        elif isinstance(self.tree.get(self.image.digest), UnreadableManifest):
            # Its tags could not be moved back.
            self.in_place = Conflict(f"{self.image} is now needed by another tag")
        if UnreadableManifest() in self.tags.values():
            self.warn(
                "its manifest cannot be read, and stays: registry-garbage-collect names its digest; then"
                f" delete {self.image.repository}@DIGEST"
            )

    @property
    def root(self) -> str:
        return next(iter(self.tree), "")

    def stood_for(self, tag: str) -> tuple[str, ...]:
        """Return the stored manifests for which ``tag`` stood before any delete, the root first."""
        before = self.tags[tag]
        if isinstance(before, RemoteManifest) and before.is_placeholder:
            return before.replaces(tag)
        return tuple(digest for digest, manifest in self.tree.items() if manifest is not None)

    @property
    def placeholders(self) -> dict[str, str]:
        """Tag to the digest of the placeholder on which an earlier delete, which was cut short, left it."""
        return {
            tag: manifest.digest
            for tag, manifest in self.tags.items()
            if isinstance(manifest, RemoteManifest) and manifest.is_placeholder
        }

    def keep(self) -> None:
        """Note that the root has to stay. That is an error, unless the target has tags that were moved."""
        if self.in_place:
            self.error = self.in_place
        elif self.image.digest and not self.tags:
            self.error = Conflict(f"{self.image} is now needed by another tag")

    def warn(self, text: str) -> None:
        self.warnings[text] = None

    def explain(self, error: SysregError) -> SysregError:
        """Return ``error`` with what to do about what is done already."""
        if self.state is State.UNTOUCHED:
            return error
        finish = self.state.value
        if isinstance(error, TagsLeft):
            finish = f"{error.next_step}, and then run the same command again"
        elif isinstance(error, (ProtocolError, NotStored)) and error.next_step:
            finish = f"{error.next_step}; {finish}"  # to run it again does not help against the cause
        explained = type(error)(error.message, next_step=finish)
        explained.__cause__ = error
        return explained


def find_targets(
    repository: Repository, images: Sequence[ImageReference], *, all_tags: bool
) -> tuple[list[Target], dict[ImageReference, SysregError]]:
    """Find out what ``images`` of one repository mean, each as if those before it were deleted already.

    Return the targets, and an error for each of the others: NotFound; Conflict for a digest that another tag
    may need, or that has several tags, without ``all_tags``; and what RegistryClient raises.
    """
    targets: list[Target] = []
    errors: dict[ImageReference, SysregError] = {}
    claimed: set[str] = set()
    read_tags = functools.cache(repository.tags)  # once for all digests
    for image in images:
        try:
            if image.tag:
                target = _find_tag(repository, image, claimed)
            else:
                target = _find_digest(repository, image, read_tags, claimed, all_tags)
        except SysregError as error:
            errors[image] = error
        else:
            targets.append(target)
            claimed.update(target.tags)
    return targets, errors


def _find_tag(repository: Repository, image: ImageReference, claimed: Collection[str]) -> Target:
    tags = {image.tag: repository.tag(image.tag)}
    # 2.8 keeps a tag whose manifest is gone. It answers 404 as for an unknown tag, but lists the tag.
    readable = isinstance(tags[image.tag], RemoteManifest)
    if not readable:
        listed = repository.client.tags(image.repository)
        if image.tag not in listed:
            raise unknown_image(image, repository.client.where, has_others=bool(listed))
    return Target(image, {} if image.tag in claimed else tags, repository.tree(tags))


def _find_digest(
    repository: Repository,
    image: ImageReference,
    read_tags: Callable[[], Mapping[str, Manifest]],
    claimed: Collection[str],
    all_tags: bool,
) -> Target:
    root = repository.manifest(image.digest, fresh=True)
    tags: dict[str, Manifest] = {}
    others: dict[str, Manifest] = {}
    for tag, manifest in read_tags().items():
        if tag not in claimed:
            (tags if repository.is_on(tag, manifest, image.digest) else others)[tag] = manifest
    if root is None and not tags:
        raise unknown_image(image, repository.client.where, has_others=bool(others))
    for tag, manifest in others.items():
        needed = repository.needed_by(manifest)
        other = image.with_tag(tag)
        if needed is None and isinstance(root, UnreadableManifest):
            continue  # nobody can pull it, whoever needs it
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
    is_placeholder = isinstance(root, RemoteManifest) and root.is_placeholder
    roots = tags if root is None or (is_placeholder and tags) else {"": root}
    return Target(image, dict(sorted(tags.items())), repository.tree(roots))
