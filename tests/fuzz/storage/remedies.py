"""The remedies in the messages of a collection, as a person reads them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sysreg_cli.reference import ImageReference, parse

_COMMAND = re.compile(
    r"; push it again, or delete it: (?P<or_push>system registry-image-delete [^;]+)$"
    r"|; remove it after the grace time: (?P<collect>system registry-garbage-collect --delete-untagged)$"
    r"|; delete it: (?P<delete>system registry-image-delete [^;]+); collect again, then push the image$"
    r"|; remove it: (?P<remove>rm -r [^;]+); then push the image again$"
    r"|; remove the link: (?P<link>rm -r [^;]+)"
    r"(?:; delete the tags: (?P<tags>system registry-image-delete [^;]+))?"
    r"; collect again, then push the image$"
    r"|; remove it: (?P<stray>rm -r [^;]+)$"
    r"|; give the storage back to that user: (?P<own>chown .+)$"
    r"|; delete (?P<first>\S+) first$"
)


@dataclass(frozen=True)
class Remedy:
    """Commands to type, and the images that can be pushed instead.

    ``goes_first`` tells that the message is about another command, which is to be typed again afterwards.
    """

    commands: tuple[str, ...]
    instead: tuple[ImageReference, ...] = ()
    after_grace_time: bool = False
    goes_first: bool = False


def read(message: str) -> Remedy | None:
    """Return the remedy in a message, or None if it names none."""
    found = _COMMAND.search(message)
    if found is None:
        return None
    instead: tuple[ImageReference, ...] = ()
    if found["or_push"]:
        images = [parse(word) for word in message.partition(": ")[0].split(", ")]
        instead = tuple(image for image in images if image.tag)
    if found["first"]:
        return Remedy((f"system registry-image-delete --yes {found['first']}",), goes_first=True)
    commands = tuple(filter(None, found.groups()))
    return Remedy(commands, instead, found["collect"] is not None, found["own"] is not None)
