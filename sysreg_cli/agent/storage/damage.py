"""What is wrong in a storage: the damaged thing, the tags that need it, and the remedy. Pure.

The remedies are those that the registry accepts (docs/behaviour.rst, "docker-registry"). They also are the
shortest: each names a command that can be typed as it is, or a push.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from enum import Enum, auto

from sysreg_cli.text import printable

_MAX_TAGS = 10
#: what is said of something that is in the registry's way
STRAY = "is nothing of the registry's"


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
    that manifest, sorted. ``path`` is what to remove. Without a ``repository`` it is in none.
    """

    repository: str
    what: str
    remedy: Remedy
    digest: str = ""
    tags: tuple[str, ...] = ()
    path: str = ""

    def __str__(self) -> str:
        images = [f"{self.repository}:{tag}" for tag in self.tags[:_MAX_TAGS]]
        if not images:
            images = [f"{self.repository}@{self.digest}" if self.digest else self.repository or "the storage"]
        more = f" and {len(self.tags) - _MAX_TAGS} more tags" if len(self.tags) > _MAX_TAGS else ""
        return printable(f"{', '.join(images)}{more}: {self.what}; {self._advice()}")

    def _advice(self) -> str:
        tags = [f"{self.repository}:{tag}" for tag in self.tags]
        manifest = f"{self.repository}@{self.digest}"
        again = "collect again, then push the image"
        match self.remedy:
            case Remedy.PUSH:
                return f"push it again, or delete it: {_delete(tags or [manifest])}"
            case Remedy.COLLECT:
                return "remove it after the grace time: system registry-garbage-collect --delete-untagged"
            case Remedy.DELETE_TAGS:
                return f"delete it: {_delete(tags or [manifest])}; {again}"
            case Remedy.DELETE_MANIFEST:
                return f"delete it: {_delete([*tags, manifest])}; {again}"
            case Remedy.REMOVE_FILE:
                return f"remove it: rm -r {shlex.quote(self.path)}; then push the image again"
            case Remedy.REMOVE_LINK:
                delete = f"; delete the tags: {_delete(tags)}" if tags else ""
                return f"remove the link: rm -r {shlex.quote(self.path)}{delete}; {again}"
            case Remedy.REMOVE_STRAY:
                return f"remove it: rm -r {shlex.quote(self.path)}"


def _delete(images: list[str]) -> str:
    return f"system registry-image-delete --yes {' '.join(images)}"
