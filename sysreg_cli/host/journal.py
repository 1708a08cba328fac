"""The journal of a change: one JSON record on the disk from before the change begins until it has ended.

The file holds the record as text and the SHA-256 of that text, so a damaged file is recognised. A record has
a format number. Readers ignore fields that they do not know. A new meaning of a field needs a new number.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sysreg_cli.host import files

#: Records without a number have the format 1, too: version 0.1.0 wrote them.
FORMAT = 1


class JournalDamaged(Exception):
    """There is a journal that cannot be read: it is damaged, or has a newer format."""


class Journal:
    """One file with the record of the change under way. It never holds a secret."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, record: Mapping[str, Any]) -> None:
        """Replace the record durably. Raises OSError; then the old record is unchanged."""
        text = json.dumps({**record, "format": FORMAT}, sort_keys=True)
        data = json.dumps({"record": text, "sha256": _digest(text)}) + "\n"
        files.write(self._path, data.encode(), mode=0o600)

    def read(self) -> dict[str, Any] | None:
        """Return the record without its format number; None if no change is under way.

        Raises JournalDamaged, OSError.
        """
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            envelope = json.loads(data)
            text = envelope["record"]
            if _digest(text) != envelope["sha256"]:
                raise JournalDamaged(f"{self._path}: the digest is wrong")
            record = dict(json.loads(text))
            number = record.pop("format", FORMAT)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise JournalDamaged(f"{self._path}: not a journal") from None
        if number != FORMAT:
            raise JournalDamaged(f"{self._path}: written by another version, in the format {number}")
        return record

    def exists(self) -> bool:
        """Whether a change is under way, or was interrupted."""
        return self._path.exists()

    def clear(self) -> None:
        """Remove the record: the change has ended. Raises OSError."""
        files.remove(self._path)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
