"""Images on the wire."""

from __future__ import annotations

from collections.abc import Mapping
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


@dataclass(frozen=True, slots=True)
class StoredTags:
    """The tags of a repository in its storage, each with the digest in its link, "" for a damaged link."""

    tags: Mapping[str, str]
