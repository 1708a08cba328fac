"""Images on the wire."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Image:
    """A repository, or with ``tag`` one tag of it."""

    name: str
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class Images:
    """The response to a request for repositories or tags."""

    registry_images: tuple[Image, ...]
