"""Image references: the one parser of ``[HOST:PORT/]NAME[:TAG|@DIGEST]``.

The grammar is that of the distribution project's package ``reference``: repository names are lower case, with
components joined by ``/``; tags have up to 128 characters; digests are ``algorithm:hex``. The parser removes
``host:port`` only if it is an address of this registry. So ``docker.io/starlingx/x`` is a repository of the
local registry, with the first component ``docker.io``. StarlingX mirrors images under such names.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from sysreg_cli.errors import InvalidReference, NotFound
from sysreg_cli.text import shorten

# the digests that registries of distribution 2.8 and 3 store
_DIGITS = {"sha256": 64, "sha512": 128}
# One component: alphanumerics, with one ".", one or two "_", or any number of "-" in between.
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
# The registry's limit for the repository name (distribution: NameTotalLengthMax).
_MAX_NAME = 255


@dataclass(frozen=True, slots=True)
class ImageReference:
    """A repository with a tag, with a digest, or with neither of them. Never with both."""

    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        if self.tag:
            return f"{self.repository}:{self.tag}"
        return f"{self.repository}@{self.digest}" if self.digest else self.repository

    def with_tag(self, tag: str) -> ImageReference:
        """Return the reference of ``tag`` in the same repository."""
        return ImageReference(self.repository, tag=tag)


def is_component(text: str) -> bool:
    """Whether ``text`` may stand between two slashes of a repository name. User names must."""
    return _COMPONENT.fullmatch(text) is not None


def is_repository(text: str) -> bool:
    """Whether ``text`` is a repository name that the registry's API takes."""
    return len(text) <= _MAX_NAME and all(is_component(part) for part in text.split("/"))


def is_tag(text: str) -> bool:
    return _TAG.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    """Whether ``text`` is a digest that the registry stores, in lower case."""
    # Half the time of a regular expression: a storage of 20,000 tags has 150,000 digests to check.
    algorithm, _, digits = text.partition(":")
    if len(digits) != _DIGITS.get(algorithm):
        return False
    try:
        return bytes.fromhex(digits).hex() == digits
    except ValueError:
        return False


def parse(text: str, own_addresses: Collection[str] = ()) -> ImageReference:
    """Parse an image reference. A leading HOST:PORT must be one of ``own_addresses``.

    Raises InvalidReference, whose message quotes the text with control characters escaped.
    """
    if not text:
        raise InvalidReference("the image name is empty")
    shown = shorten(text)
    host, slash, path = text.partition("/")
    name, at, digest = (path if slash and host.lower() in own_addresses else text).partition("@")
    # A tag follows a colon behind the last slash. A colon before it is that of another host:port.
    head, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    name = head + slash + last
    if at and colon:
        raise InvalidReference(f"{shown}: has a tag and a digest", next_step="give one of them")
    if at and not is_digest(digest):
        raise InvalidReference(f"{shown}: {shorten(digest)} is not a digest (sha256: and 64 hex digits)")
    if colon and not is_tag(tag):
        raise InvalidReference(
            f"{shown}: {shorten(tag)} is not a tag (letters, digits, _ . -, at most 128, not first . or -)"
        )
    _check_name(name, shown)
    return ImageReference(name, tag=tag, digest=digest)


def _check_name(name: str, shown: str) -> None:
    first, slash, _ = name.partition("/")
    if len(name) > _MAX_NAME:
        raise InvalidReference(f"{shown}: the image name is longer than {_MAX_NAME} characters")
    if slash and ":" in first:
        raise InvalidReference(f"{shown}: {shorten(first)} is not this registry")
    if name != name.lower() and is_repository(name.lower()):
        raise InvalidReference(f"{shown}: image names are lower case", next_step=f"try {name.lower()}")
    if not is_repository(name):
        raise InvalidReference(
            f"{shown}: not an image name (a-z and 0-9, joined by . _ - inside each part between slashes)"
        )


def unknown_image(image: ImageReference, where: str = "", *, has_others: bool = False) -> NotFound:
    """Return the error for an image that is not there. ``has_others``: its repository has other tags."""
    place = f" in {where}" if where else ""
    shown = f"registry-image-tags {image.repository}" if has_others else "registry-image-list"
    return NotFound(f"{image}: there is no such image{place}", next_step=f"see system {shown}")
