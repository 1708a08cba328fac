"""What the agent keeps on disk about its source: ``certificate-source.json`` in the state directory."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sysreg_cli.errors import ProtocolError
from sysreg_cli.host import files
from sysreg_cli.v1 import wire

log = logging.getLogger("sysreg.agent")

_FILE = "certificate-source.json"
_SAY_AGAIN = timedelta(days=1)
_MAX_SAID = 20


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """What is known about a source. Times are ISO 8601 in UTC.

    ``seen`` is when it was read last. ``problem`` is why its certificate is not in use, empty if it is.
    ``installed`` is the digest of the chain that was installed from it last. ``said`` maps the problems that
    the journal has to the time when they were written there.
    """

    source: str
    seen: str = ""
    problem: str = ""
    installed: str = ""
    said: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, directory: Path, source: str) -> SourceRecord:
        """Read the record of ``source``. A damaged one, and one of another source, is a new one."""
        path = directory / _FILE
        try:
            record = wire.from_json(cls, json.loads(path.read_bytes()), str(path))
        except FileNotFoundError:
            return cls(source)
        except (OSError, ValueError, ProtocolError) as error:
            log.warning("%s is damaged, and is not used: %s", path, error)
            return cls(source)
        return record if record.source == source else cls(source)

    def save(self, directory: Path) -> None:
        """Replace the file durably. Raises OSError; then it is unchanged."""
        files.write(directory / _FILE, json.dumps(wire.to_json(self)).encode(), mode=0o600)

    def is_due(self, problem: str, now: datetime) -> bool:
        """Whether the journal lacks ``problem``, or has it from more than a day ago."""
        try:
            age = now - datetime.fromisoformat(self.said[problem])
        except (KeyError, ValueError, TypeError):
            return True
        return not timedelta(0) <= age < _SAY_AGAIN

    def after_saying(self, problem: str, now: datetime) -> SourceRecord:
        """Return the record after ``problem`` was written to the journal."""
        kept = [(text, at) for text, at in self.said.items() if text != problem][-_MAX_SAID + 1 :]
        return replace(self, said={**dict(kept), problem: now.isoformat(timespec="seconds")})


def now() -> datetime:
    """The present time, aware."""
    return datetime.now(UTC)
