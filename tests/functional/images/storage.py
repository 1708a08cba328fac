"""What the registry has stored, read from its disk: the judge of what a delete left behind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from devstack.controller import Controller


def manifests(controller: Controller, repository: str) -> set[str]:
    """The digest of every manifest that the repository holds, tagged or not."""
    links = _repository(controller, repository).glob("_manifests/revisions/sha256/*/link")
    return {link.read_text() for link in links}


def tags(controller: Controller, repository: str) -> set[str]:
    links = _repository(controller, repository).glob("_manifests/tags/*/current/link")
    return {link.parent.parent.name for link in links}


def _repository(controller: Controller, repository: str) -> Path:
    return controller.storage / "docker/registry/v2/repositories" / repository


@contextlib.contextmanager
def damaged(controller: Controller, digest: str, content: bytes = b"") -> Iterator[None]:
    """Replace the content of a stored manifest meanwhile: by nothing, as a full disk or a crash does."""
    sha256 = digest.removeprefix("sha256:")
    data = controller.storage / "docker/registry/v2/blobs/sha256" / sha256[:2] / sha256 / "data"
    whole = data.read_bytes()
    data.write_bytes(content)
    try:
        yield
    finally:
        if data.exists():
            data.write_bytes(whole)
