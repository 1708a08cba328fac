"""What a snapshot says of one repository, and of one blob."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(slots=True)
class Repository:
    """One repository.

    ``tags`` maps each tag to a digest, "" if the link is damaged. ``revisions`` are the digests of its
    manifests. ``unlinked`` are manifests that it had: of each, the registry leaves the directory of the link.
    ``broken`` maps revisions with a damaged link to the digest in that link, "" if there is none.
    ``odd`` are paths, relative to the repository, of links to manifests that are no regular files, and of
    ``layout.DIRECTORIES`` that are none. ``strays`` are such paths of what does not belong to the registry
    and is in its way: in the place of a directory, or of the file that the next push of a tag writes.
    ``uploads`` counts uploads under way. The registry's catalog and collector only see an ``enumerable``
    repository.
    """

    name: str
    tags: dict[str, str] = field(default_factory=dict)
    revisions: set[str] = field(default_factory=set)
    unlinked: set[str] = field(default_factory=set)
    broken: dict[str, str] = field(default_factory=dict)
    odd: set[str] = field(default_factory=set)
    strays: set[str] = field(default_factory=set)
    uploads: int = 0
    enumerable: bool = True


class Blob(NamedTuple):
    """A stored blob: its size in bytes, -1 if it is not a regular file, and when it was written."""

    size: int
    time: float
