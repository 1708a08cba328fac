"""What can go wrong with the embedded controller; the text is for the person at the terminal."""

from __future__ import annotations


class DevstackError(Exception):
    """The embedded controller can't be started or stopped: what is wrong, and what to do about it."""
