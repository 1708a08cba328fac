"""How text from outside is shown: in a message, on a terminal, in a log. It never starts a second line."""

from __future__ import annotations

from datetime import UTC, datetime


def iso_time(seconds: float) -> str:
    """Return a time, in seconds since the epoch, as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def shorten(text: str, limit: int = 80) -> str:
    """Quote ``text`` for a message in ASCII, with control characters escaped. Cut it after ``limit``."""
    return ascii(text if len(text) <= limit else text[:limit] + "...")


def log_line(text: str) -> str:
    """Escape what is not printable ASCII, for a log: terminals act on some characters, and reorder others."""
    if text.isascii() and text.isprintable():
        return text
    return text.encode("unicode_escape").decode("ascii")


def printable(text: str, limit: int | None = None) -> str:
    """Escape every control, format and unassigned character of ``text``. Cut it after ``limit``."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if limit is None or len(text) <= limit else text[:limit] + "..."
