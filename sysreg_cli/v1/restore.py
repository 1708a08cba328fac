"""Deleted tags and their restore, on the wire. Times are ISO 8601 in UTC."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DeletedState(StrEnum):
    """Whether a deleted tag can be restored."""

    RESTORABLE = "restorable"
    TAG_IN_USE = "tag in use"  # it stands for something else now: only under another tag
    LOST = "lost"  # something that it needs is not stored any more


@dataclass(frozen=True, slots=True)
class DeletedTag:
    """A tag that was deleted. ``image`` is NAME:TAG, ``digest`` what it stood for.

    ``deleted_by`` is empty if the record of the delete does not say it. ``reason`` explains the state.
    """

    image: str
    digest: str
    deleted_at: str
    deleted_by: str
    state: DeletedState | str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DeletedTags:
    """The deleted tags that the caller may pull."""

    deleted: tuple[DeletedTag, ...]


@dataclass(frozen=True, slots=True)
class RestoredImage:
    """What became of one image of a restore, ``image``. ``error`` says why it was not restored.

    ``tags`` stand for ``digest`` again. ``manifests`` are those that were put back.
    """

    image: str
    restored: bool
    digest: str = ""
    tags: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Restoration:
    """The response to a restore: an entry for each image, in the order of the request."""

    images: tuple[RestoredImage, ...]
