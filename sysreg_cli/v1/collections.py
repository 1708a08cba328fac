"""A garbage collection on the wire. Times are ISO 8601 in UTC; durations are seconds; sizes are bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

#: the response header that names the collection that was started
ID_HEADER = "X-Collection-Id"


class Phase(StrEnum):
    """What a collection is doing. See docs/contracts.rst, "Garbage collection".

    The phases are in order. RECOVER replaces the others.
    """

    SCAN = "scan"  # read the storage without the write lock
    DRAIN = "drain"  # hold the write lock, and wait until no write is under way
    MARK = "mark"  # read the storage again, under the write lock
    PIN = "pin"  # protect the blobs of pushes under way
    UNTAG = "untag"  # unlink the untagged manifests that go
    SWEEP = "sweep"  # the registry's collector deletes the blobs
    CLEANUP = "cleanup"  # remove empty repositories
    RESTART = "restart"  # restart a registry whose cache is stale
    VERIFY = "verify"  # every tag's manifests and blobs are there
    RECOVER = "recover"  # the agent that began the collection died


class State(StrEnum):
    """Whether a collection runs."""

    IDLE = "idle"
    RUNNING = "running"


class Outcome(StrEnum):
    """How a collection ended."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"  # its agent died


@dataclass(frozen=True, slots=True)
class CollectionOptions:
    """What was asked for."""

    dry_run: bool = False
    delete_untagged: bool = False
    #: seconds for which content of pushes under way is kept
    grace: float = 3600.0
    #: seconds for which deleted tags can be restored
    keep_deleted: float = 0.0


@dataclass(frozen=True, slots=True)
class CollectionResult:
    """How a collection ended. ``phase`` is the one in which it failed or was cancelled.

    ``duration`` counts the whole, ``seconds`` each phase. ``writes_held`` is the time in which nobody got a
    write token, in ``holds`` pieces, the longest of which took ``longest_hold``. ``pinned`` counts the blobs
    kept although the registry's collector would have deleted them. ``irrecoverable`` counts the deleted tags
    that cannot be restored any more, and ``irrecoverable_tags`` names them (NAME:TAG@DIGEST). ``remaining``
    counts the blobs that were to be deleted and still exist. ``ended_writes`` names the requests that were
    ended by a restart of the registry. ``sizes_known`` is false if the storage does not tell sizes; then
    ``bytes`` is 0.
    """

    id: str
    options: CollectionOptions = field(default_factory=CollectionOptions)
    started: str = ""
    outcome: Outcome | str = ""
    error: str = ""
    phase: Phase | str = ""
    ended: str = ""
    blobs: int = 0
    bytes: int = 0
    manifests: int = 0
    repositories: int = 0
    pinned: int = 0
    irrecoverable: int = 0
    irrecoverable_tags: tuple[str, ...] = ()
    remaining: int = 0
    sizes_known: bool = True
    duration: float = 0.0
    writes_held: float = 0.0
    holds: int = 0
    longest_hold: float = 0.0
    ended_writes: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlannedBlob:
    """A blob that a dry run would free."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class CollectionPlan:
    """What a collection would remove. ``manifests`` are ``NAME@DIGEST``."""

    blobs: tuple[PlannedBlob, ...] = ()
    manifests: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CollectionStatus:
    """The running collection, if any, and how the last ones ended, the latest first.

    ``progress`` goes from 0 to 1; ``detail`` says what the collection waits for.
    """

    state: State | str
    id: str = ""
    started: str = ""
    options: CollectionOptions | None = None
    phase: Phase | str = ""
    progress: float = 0.0
    detail: str = ""
    last_result: CollectionResult | None = None
    results: tuple[CollectionResult, ...] = ()
    plan: CollectionPlan | None = None


def now() -> str:
    """The present time as it stands on the wire."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
