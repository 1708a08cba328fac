"""What is told about a collection: its options, how far it is, and how it ended. JSON at the edges."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

# Phases in their order, and the share of a collection's time each takes, for a progress bar.
PHASES = {
    "look": 10,
    "drain": 15,
    "mark": 10,
    "pin": 1,
    "untag": 2,
    "sweep": 50,
    "tidy": 2,
    "restart": 2,
    "verify": 8,
}


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for. ``grace`` in seconds."""

    dry_run: bool = False
    delete_untagged: bool = False
    grace: float = 3600.0


@dataclass(slots=True)
class Progress:
    """How far a collection is. ``fraction`` of the whole, 0 to 1; ``detail`` says what it waits for."""

    phase: str = "look"
    fraction: float = 0.0
    detail: str = ""

    def enter(self, phase: str, within: float = 0.0, detail: str = "") -> None:
        """Be in ``phase``, of which ``within`` (0 to 1) is done."""
        before = 0
        for name, share in PHASES.items():
            if name == phase:
                break
            before += share
        self.phase, self.detail = phase, detail
        self.fraction = round((before + min(within, 1.0) * PHASES[phase]) / sum(PHASES.values()), 4)


@dataclass(slots=True)
class Result:
    """How a collection ended: ``outcome`` is done, failed, cancelled or interrupted (its agent died).

    ``seconds`` are those of each phase, ``duration`` of the whole; ``writes_held`` those for which nobody
    got a token to write, in ``holds`` pieces of which ``longest_hold`` is the longest. ``pinned`` counts the
    blobs kept for pushes under way. ``remaining`` is filled for what was planned and not removed.
    """

    id: str
    options: Options
    started: str
    outcome: str = ""
    error: str = ""
    ended: str = ""
    blobs: int = 0
    bytes: int = 0
    manifests: int = 0
    repositories: int = 0
    pinned: int = 0
    remaining: int = 0
    sizes_known: bool = True
    duration: float = 0.0
    writes_held: float = 0.0
    holds: int = 0
    longest_hold: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def count_hold(self, seconds: float) -> None:
        """Writes were held for so long."""
        self.holds += 1
        self.writes_held = round(self.writes_held + seconds, 3)
        self.longest_hold = max(self.longest_hold, round(seconds, 3))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Result:
        """Raises TypeError, KeyError or ValueError on a document that ``to_json`` didn't make."""
        return cls(**{**document, "options": Options(**document["options"])})


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
