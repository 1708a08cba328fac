"""Lists repositories as the registry's API does (distribution 2.8, ``registry/storage/catalog.go``).

It only reads the names in directories. So it takes a small part of the time of the registry, which answers a
request for each repository. Functions raise OSError.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from sysreg_cli.agent.storage import layout


def repositories(root: Path) -> list[str]:
    """Return the names of the repositories in the registry's catalog, in plain byte order."""
    return sorted(_names(str(layout.repositories(root))))


def has_tags(root: Path, repository: str) -> bool:
    """Whether the registry's list of tags of a repository is not empty."""
    try:
        with os.scandir(layout.repository(root, repository) / "_manifests/tags") as entries:
            return next(entries, None) is not None
    except FileNotFoundError:
        return False


def _names(top: str) -> Iterator[str]:
    pending = [(top, "")]
    followed = set()  # what symbolic links lead to: one that leads upwards is followed once
    while pending:
        path, name = pending.pop()
        for entry in _entries(path):
            if entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110
                continue
            whole = f"{name}/{entry.name}" if name else entry.name
            if entry.name == "_layers":
                yield _text(name or whole)
            if entry.name.startswith("_"):
                if not entry.is_dir():
                    break  # the registry ends its walk of this directory at such a file
            elif entry.is_dir():
                if entry.is_symlink():
                    target = entry.stat()
                    if (target.st_dev, target.st_ino) in followed:
                        continue
                    followed.add((target.st_dev, target.st_ino))
                pending.append((entry.path, whole))


def _entries(path: str) -> list[os.DirEntry[str]]:
    """Return the entries of a directory in the order of the registry's walk; none if it has just gone."""
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: os.fsencode(entry.name))
    except FileNotFoundError:
        return []


def _text(name: str) -> str:
    """Return a name as the registry's JSON has it: what is no UTF-8 becomes a replacement character."""
    return os.fsencode(name).decode(errors="replace")
