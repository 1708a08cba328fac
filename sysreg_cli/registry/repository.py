"""What the tags of one repository stand for, and which manifests they need. Reads only."""

from __future__ import annotations

from sysreg_cli.reference import ImageReference
from sysreg_cli.registry.client import RegistryClient, in_parallel
from sysreg_cli.registry.manifests import RemoteManifest, UnreadableManifest

#: What a tag or a digest stands for. None: the registry does not have the manifest.
Manifest = RemoteManifest | UnreadableManifest | None


class Repository:
    """The repository of ``image``, in the registry of ``client``."""

    def __init__(self, client: RegistryClient, image: ImageReference) -> None:
        self.client = client
        self.image = image
        # By digest, so what they say cannot change.
        self._indexes: dict[str, RemoteManifest] = {}

    def tags(self) -> dict[str, Manifest]:
        """Read the manifests of all tags, in parallel."""
        tags = self.client.tags(self.image.repository)
        manifests = in_parallel(lambda tag: self.client.manifest(self.image.with_tag(tag)), tags)
        return dict(zip(tags, manifests, strict=True))

    def is_on(self, tag: str, manifest: Manifest, digest: str) -> bool:
        """Whether ``tag``, which stands for ``manifest``, is on ``digest``.

        The tag of a placeholder is on the digest that the placeholder replaces.
        """
        if isinstance(manifest, UnreadableManifest) and not manifest.digest:
            return self.client.stands_for(self.image.with_tag(tag), digest)
        if isinstance(manifest, RemoteManifest) and manifest.replaces:
            return manifest.replaces[0] == digest
        return manifest is not None and manifest.digest == digest

    def tree(self, *roots: Manifest) -> dict[str, Manifest]:
        """Read the parts of indexes at any depth. Return digest to manifest, the roots first.

        The root of a placeholder is what the placeholder replaces.
        """
        tree: dict[str, Manifest] = {}
        waiting: list[str] = []
        for root in roots:
            if isinstance(root, RemoteManifest) and root.replaces is not None:
                waiting += root.replaces
            elif root is not None and root.digest:
                tree[root.digest] = root
                waiting += root.children if isinstance(root, RemoteManifest) else ()
        while waiting:
            digest = waiting.pop(0)
            if digest not in tree:
                tree[digest] = part = self.client.manifest(self.image.with_digest(digest))
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
                waiting += [self._index(digest) for digest in manifest.indexes]
        return needed

    def _index(self, digest: str) -> Manifest:
        if digest in self._indexes:
            return self._indexes[digest]
        manifest = self.client.manifest(self.image.with_digest(digest))
        if isinstance(manifest, RemoteManifest):
            self._indexes[digest] = manifest
        return manifest
