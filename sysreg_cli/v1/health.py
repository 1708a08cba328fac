"""What the agent does for `system registry-health-query`, on the wire."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class TrialOutcome(StrEnum):
    """How the trial of the registry with a test image ended."""

    PASSED = "passed"
    FAILED = "failed"
    HELD = "held"  # a garbage collection holds pushes
    NOT_SUPPORTED = "not supported"  # what the trial leaves could not be removed


class TrialStep(StrEnum):
    """A step of the trial."""

    PUSH = "push"
    PULL = "pull"
    COMPARE = "compare"
    DELETE = "delete"
    CLEANUP = "cleanup"


@dataclass(frozen=True, slots=True)
class Trial:
    """How a trial ended, in which ``step`` it failed, and why."""

    outcome: TrialOutcome | str
    step: TrialStep | str = ""
    problem: str = ""
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class BlobReading:
    """How many blobs were read, of how many bytes, and what is damaged.

    ``damages`` say which tags need the damaged thing, and the remedy. ``images`` (NAME:TAG, NAME@DIGEST) are
    those to delete before a collection, and to push again after it.
    """

    blobs: int
    bytes: int
    damages: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
