"""Image references: one parser, used everywhere.

Grammar: the distribution project's ``reference`` package (repository names lower case, components joined by
``/``; tags up to 128 characters; digests ``algorithm:hex``). A registry's ``host:port`` in front is taken off
only if it is ours: ``docker.io/starlingx/x`` is a repository of the local registry whose first component is
``docker.io``, as StarlingX mirrors images.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from sysreg_cli.errors import InvalidReference

# One component: alphanumerics, with one ".", one or two "_", or any number of "-" in between.
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
# The registry's limit for the repository name (distribution: NameTotalLengthMax).
_MAX_NAME = 255


@dataclass(frozen=True, slots=True)
class ImageReference:
    """A repository, with a tag, or with a digest, or with neither. Never both."""

    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        if self.tag:
            return f"{self.repository}:{self.tag}"
        return f"{self.repository}@{self.digest}" if self.digest else self.repository


def is_component(text: str) -> bool:
    """Whether ``text`` may stand between two slashes of a repository name; user names must."""
    return _COMPONENT.fullmatch(text) is not None


def is_repository(text: str) -> bool:
    """Whether ``text`` is a repository name, as the registry's API takes it."""
    return len(text) <= _MAX_NAME and all(is_component(part) for part in text.split("/"))


def is_tag(text: str) -> bool:
    return _TAG.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    return _DIGEST.fullmatch(text) is not None


def parse(text: str, own_hosts: Collection[str] = ()) -> ImageReference:
    """Parse ``[HOST:PORT/]NAME[:TAG|@DIGEST]``; HOST:PORT only if it is one of ``own_hosts``.

    Raises InvalidReference, whose message quotes the text with control characters escaped.
    """
    if not text:
        raise InvalidReference("the image name is empty")
    shown = shorten(text)
    rest = text
    host, slash, behind = text.partition("/")
    if slash and host.lower() in own_hosts:
        rest = behind
    name, at, digest = rest.partition("@")
    # A tag is what follows a colon behind the last slash: before it, a colon belongs to a foreign host:port.
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
    if len(name) > _MAX_NAME:
        raise InvalidReference(f"{shown}: the image name is longer than {_MAX_NAME} characters")
    if ":" in name.partition("/")[0] and "/" in name:
        raise InvalidReference(f"{shown}: {shorten(name.partition('/')[0])} is not this registry")
    if name != name.lower() and is_repository(name.lower()):
        raise InvalidReference(f"{shown}: image names are lower case", next_step=f"try {name.lower()}")
    if not is_repository(name):
        raise InvalidReference(
            f"{shown}: not an image name (a-z and 0-9, joined by . _ - inside each part between slashes)"
        )


def shorten(text: str, most: int = 80) -> str:
    """``text`` quoted for a message: control characters escaped, cut when long."""
    return ascii(text if len(text) <= most else text[:most] + "...")
