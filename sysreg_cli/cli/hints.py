"""Lines for people, on stderr and only where that is a terminal: what was meant, what comes next.

A hint never fails and never changes what a command does: if it can't be found out, there is none.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sysreg_cli.cli.output import hint
from sysreg_cli.errors import SysregError

if TYPE_CHECKING:
    from sysreg_cli.reference import ImageReference
    from sysreg_cli.registry.client import RegistryClient

_SOON = timedelta(days=30)


def wanted() -> bool:
    """Whether anybody is there to read a hint."""
    return sys.stderr.isatty()


def near_image(registry: RegistryClient, image: ImageReference) -> None:
    """Names or tags that look like one that isn't there."""
    if not wanted():
        return
    with contextlib.suppress(SysregError):
        tags = registry.tags(image.repository)
        if tags and image.tag:
            _suggest(f"no tag {image.tag} in {image.repository}", image.tag, tags)
        elif not tags:
            _suggest(f"no tags in {image.repository}", image.repository, registry.catalog())


def space_is_freed_later() -> None:
    """After a delete: what takes the space is still there."""
    if wanted():
        hint("the space is freed by system registry-garbage-collect; with --dry-run it says how much")


def expiry(certificates: Iterable[tuple[str, str]]) -> None:
    """(name, expiry date): which of the certificates expire soon, or have expired."""
    if not wanted():
        return
    now = datetime.now(UTC)
    for name, date in certificates:
        with contextlib.suppress(ValueError, TypeError):
            left = datetime.fromisoformat(date) - now
            if left < timedelta(0):
                hint(f"{name} has expired")
            elif left < _SOON:
                hint(f"{name} expires in {left.days} days")


def _suggest(what: str, word: str, words: Iterable[str]) -> None:
    import difflib

    # A name without the path that leads to it is what people type most.
    pool = [other for other in words if other != word]
    near = [other for other in pool if other.endswith(f"/{word}")] or difflib.get_close_matches(
        word, pool, n=3
    )
    if near:
        hint(f"{what}; did you mean {' or '.join(near[:3])}?")
