"""What is wrong in a storage: the damaged thing, the tags that need it, and the remedy. Pure.

The remedies are those that the registry accepts (docs/behaviour.rst, "docker-registry"). They also are the
shortest: each names a command that can be typed as it is, or a push.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from enum import Enum, auto

from sysreg_cli.text import printable

_MAX_IMAGES = 10
#: what is said of something that is in the registry's way
STRAY = "does not belong to the registry"


class Remedy(Enum):
    """How damage is mended, in the order to follow: what is in the way of others goes first."""

    REMOVE_STRAY = auto()  # no image needs it, and it is in the way of pushes
    REMOVE_FILE = auto()  # the registry neither reads nor replaces it
    REMOVE_LINK = auto()  # of a damaged manifest, which the registry can't delete by it
    DELETE_MANIFEST = auto()  # a damaged manifest is deleted by its digest; a collection then removes it
    DELETE_TAGS = auto()  # the registry takes a stored blob as good: a collection has to remove it first
    COLLECT = auto()  # nothing refers to it, so the collection removes it that removes untagged manifests
    PUSH = auto()  # the registry writes what is missing, or has damaged content


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing in a repository that is damaged or missing. ``str`` is one line for the operator.

    ``digest`` is a manifest that needs the thing or is the thing, "" if that is not known. ``tags`` reach
    that manifest, sorted, and so do ``referrers``, which are untagged manifests. ``path`` is what to remove.
    Without a ``repository`` it is in none.
    """

    repository: str
    what: str
    remedy: Remedy
    digest: str = ""
    tags: tuple[str, ...] = ()
    referrers: tuple[str, ...] = ()
    path: str = ""

    def __str__(self) -> str:
        images = self._images()
        if not images:
            images = [f"{self.repository}@{self.digest}" if self.digest else self.repository or "the storage"]
        more = f" and {len(images) - _MAX_IMAGES} more images" if len(images) > _MAX_IMAGES else ""
        return printable(f"{', '.join(images[:_MAX_IMAGES])}{more}: {self.what}; {self._advice()}")

    def _images(self) -> list[str]:
        tags = [f"{self.repository}:{tag}" for tag in self.tags]
        return [*tags, *(f"{self.repository}@{digest}" for digest in self.referrers)]

    def _advice(self) -> str:
        images = self._images()
        manifest = f"{self.repository}@{self.digest}"
        again = "collect again, then push the image"
        match self.remedy:
            case Remedy.PUSH:
                return f"push it again, or delete it: {_delete(images or [manifest])}"
            case Remedy.COLLECT:
                return "remove it after the grace time: system registry-garbage-collect --delete-untagged"
            case Remedy.DELETE_TAGS:
                return f"delete it: {_delete(images or [manifest])}; {again}"
            case Remedy.DELETE_MANIFEST:
                return f"delete it: {_delete([*images, manifest])}; {again}"
            case Remedy.REMOVE_FILE:
                return f"remove it: rm -r {shlex.quote(self.path)}; then push the image again"
            case Remedy.REMOVE_LINK:
                delete = f"; delete the tags: {_delete(images)}" if images else ""
                return f"remove the link: rm -r {shlex.quote(self.path)}{delete}; {again}"
            case Remedy.REMOVE_STRAY:
                return f"remove it: rm -r {shlex.quote(self.path)}"


def _delete(images: list[str]) -> str:
    return f"system registry-image-delete --yes {' '.join(images)}"
