"""What the agent remembers of collections, on disk: the one that runs, and how the last ones ended."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sysreg_cli.agent.garbage.result import Options, Result
from sysreg_cli.host import files

log = logging.getLogger("sysreg.agent")

MOST_RESULTS = 10
# Names of what is broken; more are counted, but fill no file.
_MOST_WARNINGS = 100


@dataclass(slots=True)
class Running:
    """A collection that began and, as far as the disk knows, hasn't ended. ``collector`` is a process id."""

    id: str
    options: Options
    started: str
    phase: str = "look"
    collector: int = 0


@dataclass(slots=True)
class History:
    """``<state>/garbage/history.json``; every change is durable when ``save`` returns."""

    directory: Path
    running: Running | None = None
    results: list[Result] = field(default_factory=list)

    @classmethod
    def load(cls, directory: Path) -> History:
        """What is on disk; a missing or damaged file is an empty history. Raises OSError."""
        directory.mkdir(mode=0o700, exist_ok=True)
        files.remove_leftovers(directory)
        found = cls(directory)
        try:
            document = json.loads(found._path.read_bytes())
            found.results = [Result.from_json(result) for result in document["results"]]
            if document["running"]:
                running = document["running"]
                found.running = Running(**{**running, "options": Options(**running["options"])})
        except FileNotFoundError:
            pass
        except (ValueError, TypeError, KeyError, AttributeError):
            log.warning("%s is damaged: results of earlier collections are lost", found._path)
        return found

    @property
    def _path(self) -> Path:
        return self.directory / "history.json"

    def save(self) -> None:
        """Raises OSError, and then the file is what it was."""
        document: dict[str, Any] = {
            "running": asdict(self.running) if self.running else None,
            "results": [result.to_json() for result in self.results],
        }
        files.write(self._path, json.dumps(document).encode(), mode=0o600)

    def end(self, result: Result) -> None:
        """The running collection ended so; saved as far as the disk allows."""
        self.running = None
        if len(result.warnings) > _MOST_WARNINGS:
            more = f"and {len(result.warnings) - _MOST_WARNINGS} more"
            result.warnings = [*result.warnings[:_MOST_WARNINGS], more]
        self.results = [result, *self.results][:MOST_RESULTS]
        self.try_save()

    def try_save(self) -> None:
        """Save where losing it costs only what can be told of a collection that dies."""
        try:
            self.save()
        except OSError as error:
            log.warning("%s can't be written: %s", self._path, error.strerror)
