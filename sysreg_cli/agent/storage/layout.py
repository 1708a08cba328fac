"""Paths in the registry's storage (distribution 2.8, ``registry/storage/paths.go``).

Below ``<rootdirectory>/docker/registry/v2``::

    blobs/sha256/<2 digits>/<digits>/data
    repositories/<name>/_manifests/revisions/sha256/<digits>/link       a manifest that the repository has
    repositories/<name>/_manifests/tags/<tag>/current/link              the manifest of the tag
    repositories/<name>/_manifests/tags/<tag>/index/sha256/<digits>/link  a manifest that the tag had once
    repositories/<name>/_layers/sha256/<digits>/link                    a blob that the repository has
    repositories/<name>/_uploads/<id>/                                  an upload under way
    repositories/<name>/_manifests/removed-by-sysreg/<tag>@<digest>/    a tag that the agent is removing

Repositories nest. The registry's catalog and its collector see only repositories that have ``_layers``.
"""

from __future__ import annotations

from pathlib import Path

_BASE = "docker/registry/v2"
#: the directories of a repository itself; every other directory in it is a nested repository
OWN = ("_uploads", "_manifests", "_layers")

#: The agent's own, while a collection runs. It has one component, so it belongs to no user: only
#: administrators could push to it.
PIN_REPOSITORY = "sysreg-garbage-collection"

#: the agent's own, for the moment of a trial of the registry; it belongs to no user, either
TRIAL_REPOSITORY = "sysreg-health-query"

#: the directories of a repository that say which manifests it has
DIRECTORIES = ("_manifests", "_manifests/revisions", "_manifests/tags")

#: in a repository: the tags that the agent is removing
REMOVED = "_manifests/removed-by-sysreg"

#: the link to the manifest of a tag, in the directory of the tag
TAG_LINK = "current/link"


def blobs(root: Path) -> Path:
    return root / _BASE / "blobs"


def repositories(root: Path) -> Path:
    return root / _BASE / "repositories"


def repository(root: Path, name: str) -> Path:
    return repositories(root) / name


def is_repository(root: Path, name: str) -> bool:
    """Whether the repository exists. A directory that only holds nested repositories is none."""
    return any((repository(root, name) / own).is_dir() for own in OWN)


def revision(root: Path, name: str, digest: str) -> Path:
    """The link by which a repository has a manifest."""
    return repository(root, name) / revision_link(digest)


def revision_link(digest: str) -> str:
    return f"_manifests/revisions/{digest_path(digest)}/link"


def layer_link(digest: str) -> str:
    return f"_layers/{digest_path(digest)}/link"


def tag(name: str) -> str:
    return f"_manifests/tags/{name}"


def tag_link(name: str) -> str:
    return f"{tag(name)}/{TAG_LINK}"


def history_link(digest: str) -> str:
    """The link by which a tag remembers a manifest, in the directory of the tag."""
    return f"index/{digest_path(digest)}/link"


def tag_history(name: str, digest: str) -> str:
    return f"{tag(name)}/{history_link(digest)}"


def data(root: Path, digest: str) -> Path:
    """The content of a blob, the only file of its directory."""
    return Path(data_path(str(blobs(root)), digest))


def data_path(blobs: str, digest: str) -> str:
    """The content of a blob below ``blobs``. Text takes a tenth of the time that Paths take."""
    algorithm, _, digits = digest.partition(":")
    return f"{blobs}/{algorithm}/{digits[:2]}/{digits}/data"


def digest_path(digest: str) -> str:
    return digest.replace(":", "/")
