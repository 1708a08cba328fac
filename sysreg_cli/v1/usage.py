"""Where the space of the registry's storage went, on the wire. Sizes are bytes; times are ISO 8601 in UTC."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Grouping(StrEnum):
    """What a row of the usage stands for."""

    IMAGE = "image"
    USER = "user"
    TAG = "tag"


@dataclass(frozen=True, slots=True)
class UsageRow:
    """An image, the images below ``USER/``, or a tag.

    ``name`` is null for the images without a ``/``, which belong to no user. ``size`` is what it reaches,
    each blob once; ``unique`` is what its delete and a collection free. ``shared_with`` names the other
    images with some of its blobs, as far as the caller may pull them. ``digest`` is that of a tag.
    """

    name: str | None
    size: int
    unique: int
    images: int = 0
    tags: int = 0
    digest: str = ""
    shared_with: tuple[str, ...] = ()
    last_pushed: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """The storage as of ``as_of``. What the caller may not know is null.

    ``size`` and ``free`` are those of the file system. Each stored byte is in one of ``bytes_referenced`` (a
    tag needs it), ``bytes_untagged`` (only manifests without a tag need it), ``bytes_unreferenced`` (nothing
    does) and ``bytes_in_uploads``. A collection now would free ``freed_by_collection``, and with
    ``--delete-untagged`` ``freed_with_delete_untagged``. ``last_collection`` is when the last one that was no
    dry run ended. ``growth_per_day`` are bytes, of the file system; ``full_on`` is the date on which it is
    full at that pace. Both are null as long as the agent has not watched it for a day. ``warnings`` describe
    damaged images.
    """

    as_of: str
    images: int
    tags: int
    bytes_referenced: int
    size: int | None = None
    free: int | None = None
    bytes_untagged: int | None = None
    bytes_unreferenced: int | None = None
    bytes_in_uploads: int | None = None
    freed_by_collection: int | None = None
    freed_with_delete_untagged: int | None = None
    last_collection: str | None = None
    last_collection_outcome: str | None = None
    growth_per_day: int | None = None
    full_on: str | None = None
    warnings: tuple[str, ...] = ()
    rows: tuple[UsageRow, ...] = ()
