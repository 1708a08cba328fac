"""Hints for people, on stderr and only if that is a terminal: what was meant, what comes next.

A hint never fails and never changes what a command does. If it cannot be found out, there is none.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sysreg_cli.cli.output import hint, readable
from sysreg_cli.errors import SysregError

if TYPE_CHECKING:
    from sysreg_cli.reference import ImageReference
    from sysreg_cli.registry.client import RegistryClient
    from sysreg_cli.registry.deletion import Deletion

_SOON = timedelta(days=30)


def wanted() -> bool:
    """Whether a person is there to read a hint."""
    return sys.stderr.isatty()


def similar_image(registry: RegistryClient, image: ImageReference) -> None:
    """Suggest names or tags that are similar to one that does not exist."""
    if not wanted():
        return
    with contextlib.suppress(SysregError):
        tags = registry.tags(image.repository)
        if tags and image.tag:
            _suggest(f"no tag {image.tag} in {image.repository}", image.tag, tags)
        elif not tags:
            _suggest(f"no tags in {image.repository}", image.repository, registry.catalog())


def space(deletions: Iterable[Deletion]) -> None:
    """After a delete, say how many bytes a garbage collection may free.

    The sizes come from the manifests that the delete has read. The agent's dry run would be exact, but the
    agent refuses another collection while it runs.
    """
    deletions = list(deletions)
    if not wanted() or not deletions:
        return
    frees = {blob: size for deletion in deletions for blob, size in deletion.frees.items()}
    if frees:
        # old images do not tell the size of their layers
        size = f"up to {readable(sum(frees.values()))}" if all(frees.values()) else "space"
        hint(
            f"this releases {size}; system registry-garbage-collect frees it,"
            " and says with --dry-run how much it is in all"
        )
    elif all(deletion.digest and not deletion.warnings for deletion in deletions):
        hint("this frees no space: other tags stand for the same content")


def undo(deletions: Iterable[Deletion]) -> None:
    """After a delete, say that it can be undone."""
    if any(deletion.recorded for deletion in deletions):
        hint("system registry-image-restore undoes this until the next garbage collection")


def expiry(certificates: Iterable[tuple[str, str]]) -> None:
    """Say which of the certificates (name, expiry date) expire soon or have expired."""
    if not wanted():
        return
    for name, date in certificates:
        with contextlib.suppress(ValueError, TypeError):
            _hint_expiry(name, datetime.fromisoformat(date) - datetime.now(UTC))


def restarts(units: Iterable[str]) -> None:
    """Say which daemons do not know a change of the CA certificates before their restart."""
    if names := " ".join(units):
        hint(
            f"{names} will know this after a restart: systemctl restart {names}, or give --restart-clients"
            " next time"
        )


def restarts_on_hosts() -> None:
    """Say that the daemons of the other hosts do not know a change of the CA certificates, either."""
    hint("docker and containerd on the hosts will know this after a restart there")


def registry_expiry(registry: RegistryClient) -> None:
    """Say whether the certificate that the registry has just presented expires soon."""
    if wanted() and (end := registry.certificate_ends) is not None:
        left = datetime.fromtimestamp(end, UTC) - datetime.now(UTC)
        _hint_expiry(f"the certificate of {registry.where}", left)


def _hint_expiry(name: str, left: timedelta) -> None:
    if left < timedelta(0):
        hint(f"{name} has expired; install another with system certificate-install")
    elif left < _SOON:
        days = f"in {left.days} day{'s' if left.days > 1 else ''}" if left.days else "within a day"
        hint(f"{name} expires {days}; install another with system certificate-install")


def _suggest(problem: str, word: str, candidates: Iterable[str]) -> None:
    import difflib

    others = [candidate for candidate in candidates if candidate != word]
    # most people leave out the path in front of a name
    near = [name for name in others if name.endswith(f"/{word}")]
    near = near or difflib.get_close_matches(word, others, n=3)
    if near:
        hint(f"{problem}; did you mean {' or '.join(near[:3])}?")
