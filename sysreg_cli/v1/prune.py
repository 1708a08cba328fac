"""What registry-image-prune removes and keeps, on the wire. Times are ISO 8601 in UTC; sizes are bytes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Decision(StrEnum):
    """What becomes of a tag."""

    KEEP = "keep"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class PrunedTag:
    """A tag and what was decided for it. ``digest`` is empty if the tag's link is damaged.

    ``unique`` is what only this tag reaches.
    """

    image: str
    decision: Decision
    reason: str
    unique: int
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Pruning:
    """What was decided at ``as_of``, and done unless it was a dry run.

    ``tags`` has a row for each tag of the images that a rule is for. ``removed`` counts the tags that went,
    or would go in a dry run; ``freed`` is what they take together and no other tag needs. ``problems`` say
    what was not done as asked for, and why.
    """

    as_of: str
    removed: int
    freed: int
    dry_run: bool = False
    problems: tuple[str, ...] = ()
    tags: tuple[PrunedTag, ...] = ()
