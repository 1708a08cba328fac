"""Finds what the tags of a storage need, and what the registry's own collector would keep."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from sysreg_cli.agent.storage import layout
from sysreg_cli.agent.storage.damage import STRAY, Damage, Remedy
from sysreg_cli.agent.storage.reach import Reach
from sysreg_cli.agent.storage.repository import Repository
from sysreg_cli.agent.storage.snapshot import Snapshot
from sysreg_cli.text import printable


class Marks:
    """The manifests and blobs that are needed in one repository.

    ``blobs`` includes the manifests. ``unreadable`` are manifests that are stored, but damaged: nobody knows
    what they refer to. Each repository has marks of its own, because the registry serves a manifest only from
    a repository that links it.
    """

    def __init__(self, snapshot: Snapshot, repository: Repository) -> None:
        self.manifests: set[str] = set()
        self.blobs: set[str] = set()
        self.unreadable: set[str] = set()
        self._snapshot = snapshot
        self._repository = repository
        #: what the marked manifests refer to
        self._references: set[str] = set()
        #: what is wrong, its remedy and its file, to the manifests that need it
        self._faults: defaultdict[tuple[str, Remedy, str], set[str]] = defaultdict(set)
        self._damaged_tags: list[Damage] = []

    @classmethod
    def of_tags(cls, snapshot: Snapshot, repository: Repository) -> Marks:
        """Follow each tag through indexes and referrers, and check the links."""
        marks = cls(snapshot, repository)
        marks._add_tags()
        layers = marks._layers()
        snapshot.read_layers({repository.name: layers})
        marks._check_links(layers)
        return marks

    @classmethod
    def of_all_tags(cls, snapshot: Snapshot) -> dict[str, Marks]:
        """Return the marks of each repository by its name. See ``of_tags``."""
        snapshot.read_manifests(set().union(*(it.revisions for it in snapshot.repositories.values())))
        found = {name: cls(snapshot, repository) for name, repository in snapshot.repositories.items()}
        for marks in found.values():
            marks._add_tags()
        layers = {name: marks._layers() for name, marks in found.items()}
        snapshot.read_layers(layers)
        for name, marks in found.items():
            marks._check_links(layers[name])
        return found

    def add(self, digests: Iterable[str], *, referrers: bool = True) -> None:
        """Add manifests with their trees and, unless told otherwise, their referrers."""
        self._add_trees(sorted(digests))
        if referrers:
            self._add_referrers()

    def damages(self) -> list[Damage]:
        """Return what is damaged, with the tags and the referrers that need it."""
        if not self._faults:
            return self._damaged_tags
        reach = Reach(self._snapshot, self._repository, self.manifests)
        name = self._repository.name
        found = list(self._damaged_tags)
        for (what, remedy, path), holders in self._faults.items():
            tags, referrers = reach.tags(holders), reach.referrers(holders)
            if remedy is Remedy.PUSH and path:
                # A tag can be deleted beside the damaged link of its manifest, an untagged manifest cannot.
                remedy, path = (Remedy.PUSH, "") if tags or not referrers else (Remedy.REMOVE_FILE, path)
            if remedy in (Remedy.PUSH, Remedy.DELETE_TAGS) and not tags and not referrers:
                remedy = Remedy.COLLECT
            if referrers and not tags:
                what += (
                    f", in a referrer of {', '.join(f'{name}:{tag}' for tag in reach.subjects(referrers))}"
                )
            found.append(Damage(name, what, remedy, min(holders), tags, referrers, path))
        return list(_without_vain_pushes(found))

    def _add_tags(self) -> None:
        for tag, digest in sorted(self._repository.tags.items()):
            if digest:
                self._add_trees([digest])
            else:
                self._note_tag(tag)
        self._add_referrers()

    def _layers(self) -> set[str]:
        """Return the stored blobs that marked manifests need, and that are no manifests."""
        return self._snapshot.blobs.keys() & (self._references - self.manifests)

    def _add_trees(self, pending: list[str]) -> None:
        snapshot, revisions = self._snapshot, self._repository.revisions
        stored, corrupt, broken = snapshot.blobs, snapshot.corrupt, self._repository.broken
        while pending:
            digest = pending.pop()
            if digest in self.manifests:
                continue
            self.manifests.add(digest)
            if (other := broken.get(digest)) and other in revisions:
                pending.append(other)  # the registry serves this one
            if digest not in stored:
                continue
            self.blobs.add(digest)
            manifest = snapshot.manifest(digest)
            if manifest is None:
                continue
            for blob, size in zip(manifest.blobs, manifest.sizes, strict=True):
                if (found := stored.get(blob)) is None:
                    self._note_missing(f"blob {blob}", blob, digest)
                elif found.size != size or size < 0 or blob in corrupt:
                    self._check_size(blob, size, digest)
            pending.extend(manifest.children)
            # a manifest whose descriptor has another media type
            pending.extend(revisions.intersection(manifest.blobs))
            self.blobs.update(manifest.blobs, manifest.foreign)
            self._references.update(manifest.blobs)

    def _add_referrers(self) -> None:
        """Add the manifests whose ``subject`` is marked, then their own referrers, and so on."""
        referrers: dict[str, list[str]] = {}
        for digest in self._repository.revisions - self.manifests:
            manifest = self._snapshot.manifest(digest)
            if manifest is not None and manifest.subject:
                referrers.setdefault(manifest.subject, []).append(digest)
        while found := [d for subject in referrers.keys() & self.manifests for d in referrers.pop(subject)]:
            self._add_trees(found)

    # -- damage ----------------------------------------------------------------------------------------

    def _check_links(self, layers: set[str]) -> None:
        """Note manifests and links that are damaged: all manifests of the repository, and layers of tags."""
        repository, snapshot = self._repository, self._snapshot
        for path in repository.odd.intersection(layout.DIRECTORIES):
            whole = snapshot.path(repository.name, path)
            self._note(f"{path} is no directory", Remedy.REMOVE_FILE, "", whole)
        readable = {digest: it for digest in self.manifests if (it := snapshot.manifest(digest))}
        others = repository.revisions - readable.keys()
        sound = readable.keys() | {digest for digest in others if snapshot.manifest(digest)}
        linked = repository.revisions - repository.broken.keys()
        for digest in (repository.revisions | self.manifests) - (sound & linked):
            self._check_manifest(digest)
        for blob, problem in snapshot.broken_layers(repository, layers):
            for holder in (digest for digest, manifest in readable.items() if blob in manifest.blobs):
                link = layout.layer_link(blob)
                if snapshot.leads_elsewhere(repository, blob):
                    path = snapshot.path(repository.name, link)
                    self._note(f"blob {blob} is {problem}", Remedy.REMOVE_FILE, holder, path)
                else:
                    self._note_link(f"blob {blob} is {problem}", link, holder)
        for digest in others & sound:
            self._check_untagged(digest)
        named = {path for _, _, path in self._faults} | {damage.path for damage in self._damaged_tags}
        for path in repository.strays:
            if (whole := snapshot.path(repository.name, path)) not in named:
                self._note(f"{path} {STRAY}", Remedy.REMOVE_STRAY, "", whole)

    def _check_untagged(self, digest: str) -> None:
        """Note the damage below an untagged manifest that a push would take as good."""
        snapshot = self._snapshot
        manifest = snapshot.manifest(digest)
        assert manifest is not None
        for blob, size in zip(manifest.blobs, manifest.sizes, strict=True):
            if blob in snapshot.blobs:
                self._check_size(blob, size, digest)
        for child in manifest.children:
            is_damaged = child in snapshot.blobs and snapshot.manifest(child) is None
            if is_damaged and child not in self._repository.revisions:
                self._note_damaged(f"manifest {child}", Remedy.DELETE_TAGS, child, digest)

    def _check_manifest(self, digest: str) -> None:
        repository, link = self._repository, layout.revision_link(digest)
        is_stored = digest in self._snapshot.blobs
        is_damaged = is_stored and self._snapshot.manifest(digest) is None
        if is_damaged:
            self.unreadable.add(digest)
        if not is_stored:
            self._note_missing(f"manifest {digest}", digest, digest)
        if is_damaged and digest in repository.broken:
            # A push would mend the link alone, and the registry deletes nothing by it.
            path = self._snapshot.path(repository.name, link)
            self._note(f"manifest {digest} and its link are damaged", Remedy.REMOVE_LINK, digest, path)
        elif digest in repository.broken:
            self._note_link(f"the link of manifest {digest} is damaged", link, digest, is_revision=True)
        elif is_damaged:
            is_linked = digest in repository.revisions
            remedy = Remedy.DELETE_MANIFEST if is_linked else Remedy.DELETE_TAGS
            self._note_damaged(f"manifest {digest}", remedy, digest, digest)
        elif (
            is_stored
            and digest not in repository.revisions
            and not self._snapshot.is_linked_by_now(repository.name, digest)
        ):
            self._note_absent(f"manifest {digest} is not linked in the repository", link, digest)

    def _note(self, what: str, remedy: Remedy, holder: str, path: str = "") -> None:
        self._faults[what, remedy, path].add(holder)

    def _note_missing(self, what: str, blob: str, holder: str) -> None:
        """Note that a blob is missing: a push writes it, unless something is in the way."""
        path = self._snapshot.blob_path(blob)
        for stray in self._snapshot.strays:
            if path.startswith(f"{stray}/"):
                self._note(f"{what} is missing: {stray} is no directory", Remedy.REMOVE_FILE, holder, stray)
                return
        link = layout.layer_link(blob) if blob != holder else layout.revision_link(blob)
        self._note_absent(f"{what} is missing", link, holder)

    def _note_absent(self, what: str, link: str, holder: str, path: str = "") -> None:
        """Note that a link is missing or damaged: a push writes it, unless something is in the way.

        ``path`` is that of a damaged link to a manifest.
        """
        if obstacle := self._snapshot.obstacle(self._repository.name, link):
            self._note(f"{what}: {obstacle} is no directory", Remedy.REMOVE_FILE, holder, obstacle)
        else:
            self._note(what, Remedy.PUSH, holder, path)

    def _check_size(self, blob: str, size: int, holder: str) -> None:
        """Note a stored blob that has not the size that a manifest says, -1 if it says none."""
        stored = self._snapshot.blobs[blob].size
        is_right = blob not in self._snapshot.corrupt
        if stored >= 0 and size in (-1, stored) and is_right:
            return
        what = f"blob {blob}, of {size} bytes," if size >= 0 else f"blob {blob}"
        self._note_damaged(what, Remedy.DELETE_TAGS, blob, holder)

    def _note_damaged(self, what: str, remedy: Remedy, blob: str, holder: str) -> None:
        """Note that the content of a blob is damaged."""
        size = self._snapshot.blobs[blob].size
        if size < 0:
            self._note(f"{what} is no file", Remedy.REMOVE_FILE, holder, self._snapshot.blob_path(blob))
        else:
            self._note(f"{what} is damaged: its file has {size} bytes", remedy, holder)

    def _note_link(self, what: str, link: str, holder: str, *, is_revision: bool = False) -> None:
        path = self._snapshot.path(self._repository.name, link)
        if self._snapshot.is_no_file(self._repository.name, link):
            self._note(f"{what}: it is no file", Remedy.REMOVE_FILE, holder, path)
        else:
            self._note_absent(what, link, holder, path if is_revision else "")

    def _note_tag(self, tag: str) -> None:
        link = layout.tag_link(tag)
        whole = self._snapshot.path(self._repository.name, link)
        what, path = "the tag's link is damaged", ""
        if link in self._repository.odd:
            what, path = f"{what}: it is no file", whole
        elif obstacle := self._snapshot.obstacle(self._repository.name, link):
            what, path = f"{what}: {obstacle} is no directory", obstacle
        remedy = Remedy.REMOVE_FILE if path else Remedy.PUSH
        self._damaged_tags.append(Damage(self._repository.name, what, remedy, tags=(tag,), path=path))


def _without_vain_pushes(damages: Sequence[Damage]) -> Iterator[Damage]:
    """Yield the damages, but with no push of a tag that has to be deleted because of another one."""
    deleted = {tag for it in damages if it.remedy is Remedy.DELETE_TAGS for tag in it.tags}
    for damage in damages:
        if damage.remedy is not Remedy.PUSH or deleted.isdisjoint(damage.tags):
            yield damage
            continue
        yield replace(damage, remedy=Remedy.DELETE_TAGS, tags=tuple(t for t in damage.tags if t in deleted))
        if pushed := tuple(tag for tag in damage.tags if tag not in deleted):
            yield replace(damage, tags=pushed, referrers=())


#: digests of manifests that are unlinked, by repository
Unlinked = Mapping[str, Collection[str]]


def collector_keeps(snapshot: Snapshot, unlinked: Unlinked) -> set[str]:
    """Return the blobs that the registry's collector keeps once ``unlinked`` manifests are gone.

    Distribution 2.8 keeps each revision of each repository that has ``_layers``, and its direct references.
    """
    kept: set[str] = set()
    for _, digest in _collector_reads(snapshot, unlinked):
        if digest in snapshot.blobs:
            kept.add(digest)
            manifest = snapshot.manifest(digest)
            if manifest is not None:
                kept.update(manifest.references)
    return kept


def collector_stops(snapshot: Snapshot, unlinked: Unlinked, deleted: Iterable[str]) -> str:
    """Return at what the registry's collector stops before it deletes anything, "" if there is nothing.

    These are damaged manifests and links, and paths that the registry does not write. ``deleted`` are blobs
    that it has to delete: it does not see one that is no file.
    """
    for digest in deleted:
        if snapshot.blobs[digest].size < 0:
            return f"blob {digest} is no file"
    if snapshot.foreign:
        return f"{printable(snapshot.foreign[0])} does not belong to the registry"
    for repository, digest in _collector_reads(snapshot, unlinked):
        if digest in repository.broken:
            return f"{repository.name}: the link of manifest {digest} is damaged"
        if digest in snapshot.blobs and snapshot.manifest(digest) is None:
            return f"{repository.name}: manifest {digest} is damaged"
    return ""


def _collector_reads(snapshot: Snapshot, unlinked: Unlinked) -> Iterator[tuple[Repository, str]]:
    for repository in snapshot.repositories.values():
        if repository.enumerable:
            for digest in repository.revisions.difference(unlinked.get(repository.name, ())):
                yield repository, digest
