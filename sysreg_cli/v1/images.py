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
class Platform:
    """A platform of an image, such as ``linux/amd64``. ``stored``: whether the registry has its manifest."""

    name: str
    digest: str
    stored: bool


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of an image. ``size`` is in bytes."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class ImageDetails:
    """What a tag or a digest stands for. Sizes are bytes, times ISO 8601 in UTC; what is not known is null.

    ``size`` is what it reaches, each blob once. ``unique`` is what its delete and a collection free.
    ``created`` and ``labels`` are from the image itself. ``also_tagged`` are other tags of the same digest,
    ``shares_layers_with`` other images with some of its layers, ``part_of`` the indexes that list it,
    ``referrers`` its signatures and the like; all as far as the caller may pull them. ``warnings`` describe
    what is damaged.
    """

    image: str
    digest: str
    media_type: str = ""
    platforms: tuple[Platform, ...] = ()
    size: int | None = None
    unique: int | None = None
    created: str | None = None
    pushed: str | None = None
    labels: Mapping[str, str] | None = None
    layers: tuple[Layer, ...] = ()
    also_tagged: tuple[str, ...] | None = None
    shares_layers_with: tuple[str, ...] | None = None
    part_of: tuple[str, ...] | None = None
    referrers: tuple[str, ...] | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredTags:
    """The tags of a repository in its storage, each with the digest in its link, "" for a damaged link."""

    tags: Mapping[str, str]
