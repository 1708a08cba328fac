"""Reads the storage once, and says what one image is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator

from sysreg_cli.agent.storage import layout
from sysreg_cli.agent.storage.damage import Damage
from sysreg_cli.agent.storage.files import read_file
from sysreg_cli.agent.storage.manifest import MAX_MANIFEST
from sysreg_cli.agent.storage.mark import Marks
from sysreg_cli.agent.storage.recent import reading
from sysreg_cli.agent.storage.repository import Repository
from sysreg_cli.agent.storage.root import open_root
from sysreg_cli.agent.storage.snapshot import Snapshot
from sysreg_cli.agent.usage.accounting import Share, Tag, shares
from sysreg_cli.reference import ImageReference, unknown_image
from sysreg_cli.registry.contents import Contents, read_contents
from sysreg_cli.registry.manifests import RemoteManifest, media_type_of
from sysreg_cli.settings import Settings
from sysreg_cli.text import iso_time
from sysreg_cli.v1.images import ImageDetails

_OURS = "ours"
# no tag can have this name
_NO_TAG = "@"


def read_details(settings: Settings, image: ImageReference, sees: Callable[[str], bool]) -> ImageDetails:
    """Read what ``image`` stands for. ``sees`` tells whether the caller sees a repository.

    Raises NotFound for an image that the caller does not see, NotSupported for a storage that cannot be read
    directly, SysregError.
    """
    with open_root(settings) as root, reading(root) as snapshot:
        repository = snapshot.repositories.get(image.repository)
        if repository is None or not sees(image.repository):
            raise unknown_image(image)
        return _Reading(snapshot, repository, image, sees).details()


class _Reading:
    """One image in a snapshot of the storage."""

    def __init__(
        self, snapshot: Snapshot, repository: Repository, image: ImageReference, sees: Callable[[str], bool]
    ) -> None:
        self._snapshot = snapshot
        self._repository = repository
        self._image = image
        self._sees = sees
        if image.tag not in repository.tags if image.tag else image.digest not in repository.revisions:
            raise unknown_image(image, has_others=bool(repository.tags))
        self._digest = repository.tags[image.tag] if image.tag else image.digest
        # the tags that go with the image
        self._tags = [image.tag] if image.tag else self._tags_on(repository)

    def details(self) -> ImageDetails:
        share = self._share()
        manifest = self._manifest(self._digest)
        contents = read_contents(manifest, self._manifest, self._configuration) if manifest else None
        return ImageDetails(
            image=str(self._image),
            digest=self._digest,
            media_type=manifest.media_type if manifest else "",
            platforms=contents.platforms if contents else (),
            size=share.size,
            unique=share.unique,
            created=contents.created if contents else None,
            pushed=self._pushed(),
            labels=contents.labels if contents else None,
            layers=contents.layers if contents else (),
            also_tagged=tuple(sorted(self._also_tagged())),
            shares_layers_with=tuple(sorted(self._sharing(contents))),
            part_of=tuple(sorted(self._part_of())),
            referrers=tuple(sorted(self._referrers())),
            warnings=tuple(str(it) for it in self._damages()),
        )

    def _share(self) -> Share:
        """Return what the image reaches, and what only it reaches."""
        if self._tags:
            return self._share_of(self._tags)
        # A delete of a manifest without a tag removes what a tag on it would reach.
        self._repository.tags[_NO_TAG] = self._digest
        share = self._share_of([_NO_TAG])
        del self._repository.tags[_NO_TAG]
        return share

    def _share_of(self, tags: Collection[str]) -> Share:
        groups: dict[Tag, Hashable] = {
            Tag(it.name, tag): _OURS if it is self._repository and tag in tags else Tag(it.name, tag)
            for it in self._snapshot.repositories.values()
            for tag in it.tags
        }
        return shares(self._snapshot, groups)[_OURS]

    def _pushed(self) -> str | None:
        link = layout.tag_link(self._image.tag) if self._image.tag else layout.revision_link(self._digest)
        seconds = self._snapshot.time(self._repository.name, link)
        return iso_time(seconds) if seconds else None

    # -- content

    def _manifest(self, digest: str) -> RemoteManifest | None:
        """Return a manifest that the registry serves from this repository."""
        if digest not in self._repository.revisions or self._snapshot.manifest(digest) is None:
            return None
        content = read_file(self._snapshot.blob_path(digest), MAX_MANIFEST) or b""
        return RemoteManifest(media_type_of(content), content)

    def _configuration(self, digest: str) -> bytes | None:
        blob = self._snapshot.blobs.get(digest)
        if blob is None or not 0 < blob.size <= MAX_MANIFEST:
            return None
        return read_file(self._snapshot.blob_path(digest), blob.size)

    # -- other images

    def _tags_on(self, repository: Repository) -> list[str]:
        return [tag for tag, digest in repository.tags.items() if digest == self._digest]

    def _also_tagged(self) -> Iterator[str]:
        for repository in self._snapshot.repositories.values():
            if self._digest and self._sees(repository.name):
                names = (str(ImageReference(repository.name, tag)) for tag in self._tags_on(repository))
                yield from (name for name in names if name != str(self._image))

    def _sharing(self, contents: Contents | None) -> Iterator[str]:
        """Yield the other images with one of its layers."""
        layers = {layer.digest for layer in contents.layers} if contents else set()
        others = [it for it in self._snapshot.repositories.values() if it is not self._repository]
        for repository in others if layers else ():
            if self._sees(repository.name) and layers & Marks.of_tags(self._snapshot, repository).blobs:
                yield repository.name

    def _part_of(self) -> Iterator[str]:
        for revision in self._repository.revisions:
            manifest = self._snapshot.manifest(revision)
            if manifest is not None and self._digest in manifest.children:
                yield from self._named(revision)

    def _referrers(self) -> Iterator[str]:
        """Yield the manifests whose subject it is, and the tags by which cosign names its signatures."""
        for revision in self._repository.revisions:
            manifest = self._snapshot.manifest(revision)
            if manifest is not None and self._digest and manifest.subject == self._digest:
                yield from self._named(revision)
        prefix = f"{self._digest.replace(':', '-')}."
        for tag in self._repository.tags:
            if self._digest and tag.startswith(prefix):
                yield str(ImageReference(self._repository.name, tag))

    def _named(self, digest: str) -> list[str]:
        """Return the tags of a manifest, or else its digest, with the name of the image."""
        name = self._repository.name
        tags = [tag for tag, on in self._repository.tags.items() if on == digest]
        return [str(ImageReference(name, tag)) for tag in tags] or [str(ImageReference(name, digest=digest))]

    def _damages(self) -> list[Damage]:
        found = Marks.of_tags(self._snapshot, self._repository).damages()
        return [it for it in found if not it.tags or set(it.tags) & set(self._tags)]
