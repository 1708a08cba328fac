"""What the tags of one repository stand for, and which manifests they need."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from sysreg_cli.errors import SysregError
from sysreg_cli.reference import ImageReference
from sysreg_cli.registry.client import RegistryClient, in_parallel
from sysreg_cli.registry.manifests import RemoteManifest, UnreadableManifest

#: What a tag or a digest stands for. None: the registry does not have the manifest.
Manifest = RemoteManifest | UnreadableManifest | None
# To read as many tags through the registry costs no more than what a delete may spend beside its readings.
_FEW = 4


class Storage(Protocol):
    """The registry's storage, for what the registry's API cannot do, or only with a request for each tag.

    The methods raise SysregError, for example because nobody here can reach the storage.
    """

    def tags(self, repository: str) -> Mapping[str, str]:
        """Return each tag of a repository with the digest in its link, "" if the link is damaged."""
        ...

    def remove_tag(self, repository: str, tag: str, digest: str) -> None:
        """Remove a tag that stands for ``digest``, "" for a damaged link, and nothing else."""
        ...

    def finish_delete(self, repository: str, digest: str) -> None:
        """Remove the tags that stand for a manifest that the registry has deleted."""
        ...


class Repository:
    """The repository ``name``, in the registry of ``client``.

    It remembers each manifest that it has read, because the content of a digest cannot change. It asks the
    registry about a tag each time, but gets a manifest only if the tag stands for another one than before.
    """

    def __init__(self, client: RegistryClient, name: str, storage: Storage | None = None) -> None:
        self.client = client
        self.name = name
        self.storage = storage
        self._manifests: dict[str, RemoteManifest] = {}
        self._tags: dict[str, RemoteManifest] = {}

    def tags(
        self, without: Collection[str] = (), *, moved: Mapping[str, str] | None = None
    ) -> dict[str, Manifest]:
        """Read what each tag stands for, in parallel, but not the tags ``without``.

        ``moved`` maps tags to unique digests to which this client has moved them. They prove that the storage
        is that of this registry. Then only tags whose manifest is not known yet cost a request.
        """
        tags = [tag for tag in self.client.tags(self.name) if tag not in without]
        stored = self._stored_tags(moved) if moved and len(tags) > _FEW else {}
        read = {tag: known for tag in tags if (known := self._manifests.get(stored.get(tag, "")))}
        self._tags |= read
        missing = [tag for tag in tags if tag not in read]
        found = {**read, **dict(zip(missing, in_parallel(self.tag, missing), strict=True))}
        return {tag: found[tag] for tag in tags}

    def _stored_tags(self, moved: Mapping[str, str]) -> Mapping[str, str]:
        """Read the tags in the storage. Nothing if it cannot be read, or is not that of this registry."""
        if self.storage is None:
            return {}
        try:
            stored = self.storage.tags(self.name)
        except SysregError:
            return {}
        return stored if any(stored.get(tag) == digest for tag, digest in moved.items()) else {}

    def tag(self, tag: str) -> Manifest:
        """Read what ``tag`` stands for."""
        manifest = self.client.manifest(self._image(tag=tag), self._tags.get(tag))
        if not isinstance(manifest, RemoteManifest):
            self._tags.pop(tag, None)
            return manifest
        self._tags[tag] = manifest = self._manifests.setdefault(manifest.digest, manifest)
        return manifest

    def manifest(self, digest: str, *, fresh: bool = False) -> Manifest:
        """Return the manifest ``digest``. It is read once; ``fresh``: again, because it may be deleted."""
        if digest in self._manifests and not fresh:
            return self._manifests[digest]
        manifest = self.client.manifest(self._image(digest=digest))
        if isinstance(manifest, RemoteManifest):
            self._manifests[digest] = manifest
        return manifest

    def move(self, tag: str, manifest: RemoteManifest) -> None:
        """Make ``tag`` stand for ``manifest``."""
        self.client.put_manifest(self._image(tag=tag), manifest)
        self._tags[tag] = self._manifests[manifest.digest] = manifest

    def is_on(self, tag: str, manifest: Manifest, digest: str) -> bool:
        """Whether ``tag``, which stands for ``manifest``, is on ``digest``.

        The tag of a placeholder is also on the digest that the placeholder replaces.
        """
        if isinstance(manifest, UnreadableManifest) and not manifest.digest:
            return self.client.stands_for(self._image(tag=tag), digest)
        if isinstance(manifest, RemoteManifest) and manifest.replaces(tag)[:1] == (digest,):
            return True
        return manifest is not None and manifest.digest == digest

    def tree(self, roots: Mapping[str, Manifest]) -> dict[str, Manifest]:
        """Read the parts of indexes at any depth. Return digest to manifest, the roots first.

        ``roots`` has for each tag what it stands for. The root of a placeholder is what it replaces.
        """
        tree: dict[str, Manifest] = {}
        waiting: list[str] = []
        for tag, root in roots.items():
            if isinstance(root, RemoteManifest) and root.is_placeholder and tag:
                waiting += root.replaces(tag)
            elif root is not None and root.digest:
                tree[root.digest] = root
                waiting += root.children if isinstance(root, RemoteManifest) else ()
        for digest in waiting:
            if digest not in tree:
                tree[digest] = part = self.manifest(digest)
                waiting += part.children if isinstance(part, RemoteManifest) else ()
        return tree

    def needed_by(self, manifest: Manifest) -> set[str] | None:
        """Return the digests of ``manifest`` and of all that it names, through indexes in indexes.

        Return None if one of them cannot be read: it may name any digest.
        """
        needed: set[str] = set()
        waiting = [manifest]
        while waiting:
            manifest = waiting.pop()
            if isinstance(manifest, UnreadableManifest):
                return None
            if manifest is not None:
                needed.update((manifest.digest, *manifest.references))
                waiting += [self.manifest(digest) for digest in manifest.indexes]
        return needed

    def _image(self, *, tag: str = "", digest: str = "") -> ImageReference:
        return ImageReference(self.name, tag, digest)
