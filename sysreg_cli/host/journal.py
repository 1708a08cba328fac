"""The intent journal: what a change is about to do, on the disk before it does it.

One small JSON record in one file, replaced atomically. It never holds a secret. A record carries its own
digest, so that a damaged file is told from a valid one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from sysreg_cli.host import files


class JournalDamaged(Exception):
    """There is a journal, but nobody can say what it was about."""


class Journal:
    """One change under way, or none."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, record: Mapping[str, str]) -> None:
        """Replace the record durably. Raises OSError; then the old one still stands."""
        text = json.dumps(dict(record), sort_keys=True)
        data = json.dumps({"record": text, "sha256": _digest(text)}) + "\n"
        files.write(self._path, data.encode(), mode=0o600)

    def read(self) -> dict[str, str] | None:
        """The record of a change that hasn't ended; None: none is under way.

        Raises JournalDamaged for anything that ``write`` didn't write, OSError when it can't be read.
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
            record = json.loads(text)
            return {str(key): str(value) for key, value in record.items()}
        except (ValueError, TypeError, KeyError, AttributeError):
            raise JournalDamaged(f"{self._path}: not a journal") from None

    def clear(self) -> None:
        """The change has ended. Raises OSError."""
        files.remove(self._path)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
