"""What the tags of one repository stand for, and which manifests they need."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sysreg_cli.reference import ImageReference
from sysreg_cli.registry.client import RegistryClient, in_parallel
from sysreg_cli.registry.manifests import RemoteManifest, UnreadableManifest

#: What a tag or a digest stands for. None: the registry does not have the manifest.
Manifest = RemoteManifest | UnreadableManifest | None


class Repository:
    """The repository ``name``, in the registry of ``client``.

    It remembers each manifest that it has read, because the content of a digest cannot change. It asks the
    registry about a tag each time, but gets a manifest only if the tag stands for another one than before.
    """

    def __init__(self, client: RegistryClient, name: str) -> None:
        self.client = client
        self.name = name
        self._manifests: dict[str, RemoteManifest] = {}
        self._tags: dict[str, RemoteManifest] = {}

    def tags(self, without: Collection[str] = ()) -> dict[str, Manifest]:
        """Read what each tag stands for, in parallel, but not the tags ``without``."""
        tags = [tag for tag in self.client.tags(self.name) if tag not in without]
        return dict(zip(tags, in_parallel(self.tag, tags), strict=True))

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
        self._tags[tag] = manifest

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
