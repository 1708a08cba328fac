"""What the registry has stored, read from its disk: the judge of what a delete left behind."""

from __future__ import annotations

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
