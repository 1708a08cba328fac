"""Keeps on disk what later agents need: the running collection, the last results, what is being deleted.

An agent ignores the fields that it does not know, so it reads what a newer one wrote. ``format`` grows when a
field changes its meaning.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from sysreg_cli.errors import ProtocolError
from sysreg_cli.host import files
from sysreg_cli.v1 import wire
from sysreg_cli.v1.collections import CollectionOptions, CollectionResult, Phase

log = logging.getLogger("sysreg.agent")

MAX_RESULTS = 10
_MAX_WARNINGS = 100
_MAX_TAGS = 1000
_Record = TypeVar("_Record")


@dataclass(slots=True)
class RunningCollection:
    """A collection that has begun. ``collector`` is the collector's process id, 0 before it starts."""

    id: str
    options: CollectionOptions
    started: str
    phase: Phase | str = Phase.SCAN
    collector: int = 0


@dataclass(slots=True)
class History:
    """The running collection, and the last results, the latest first. The file is ``history.json``."""

    running: RunningCollection | None = None
    results: tuple[CollectionResult, ...] = ()
    format: int = 1

    @classmethod
    def load(cls, directory: Path) -> History:
        """Read the file and create the directory. A damaged file is an empty history. Raises OSError."""
        directory.mkdir(mode=0o700, exist_ok=True)
        files.remove_leftovers(directory)
        return _load(cls, directory / "history.json") or cls()

    def save(self, directory: Path) -> None:
        """Replace the file durably. Raises OSError, and then it is unchanged."""
        _save(self, directory / "history.json")

    def end(self, result: CollectionResult) -> None:
        """Replace the running collection with its result."""
        self.running = None
        result = replace(
            result,
            warnings=_cut(result.warnings, _MAX_WARNINGS),
            irrecoverable_tags=_cut(result.irrecoverable_tags, _MAX_TAGS),
        )
        self.results = (result, *self.results)[:MAX_RESULTS]


@dataclass(frozen=True, slots=True)
class Deletion:
    """The blobs that a collection has decided to delete, until all of them are gone. The file is ``freeing``.

    The registry's collector deletes blobs in any order. If it is killed when a manifest is gone and its
    layers are not, these look like the layers of a push under way, and the next collections would keep them
    for the grace time. With this record they count as dereferenced at the time of the scan, in seconds since
    the epoch.
    """

    scanned: float
    digests: tuple[str, ...]
    format: int = 1

    @classmethod
    def load(cls, directory: Path) -> dict[str, float]:
        """Map each digest to the time of the scan. Empty without a readable file. Raises OSError."""
        record = _load(cls, directory / "freeing")
        return dict.fromkeys(record.digests, record.scanned) if record else {}

    @classmethod
    def save(cls, directory: Path, scanned: float, digests: Iterable[str]) -> None:
        """Replace the file durably. Raises OSError."""
        _save(cls(scanned, tuple(digests)), directory / "freeing")

    @classmethod
    def remove(cls, directory: Path) -> None:
        """Remove the file, if there is one. Raises OSError."""
        files.remove(directory / "freeing")


def _cut(texts: tuple[str, ...], limit: int) -> tuple[str, ...]:
    more = len(texts) - limit
    return (*texts[:limit], f"and {more} more") if more > 0 else texts


def _load(cls: type[_Record], path: Path) -> _Record | None:
    try:
        return wire.from_json(cls, json.loads(path.read_bytes()), str(path))
    except FileNotFoundError:
        return None
    except (ValueError, ProtocolError) as error:
        log.warning("%s is damaged, and is not used: %s", path, error)
        return None


def _save(record: object, path: Path) -> None:
    files.write(path, json.dumps(wire.to_json(record)).encode(), mode=0o600)
