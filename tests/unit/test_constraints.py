"""constraints.txt fits setup.cfg: an installation from it has everything, in releases that sysreg takes."""

from __future__ import annotations

import configparser
import re
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_ROOT = Path(__file__).parents[2]
#: name of a package -> its version and the number of its hashes
_PINNED = {
    canonicalize_name(name): (version, block.count("--hash=sha256:"))
    for name, version, block in re.findall(
        r"^([\w.-]+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$",
        (_ROOT / "constraints.txt").read_text(),
        re.MULTILINE,
    )
}


def _required() -> list[Requirement]:
    setup = configparser.ConfigParser()
    setup.read(_ROOT / "setup.cfg")
    lines = setup["options"]["install_requires"].split("\n")
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def _applies(requirement: Requirement) -> bool:
    marker = requirement.marker
    return marker is None or any(
        marker.evaluate({"extra": "", "python_version": version, "python_full_version": f"{version}.0"})
        for version in ("3.11", "3.12", "3.13")
    )


def test_every_requirement_is_pinned_within_its_bounds_and_with_hashes() -> None:
    required = _required()
    assert len(required) > 10
    for requirement in required:
        version, hashes = _PINNED[canonicalize_name(requirement.name)]
        assert version in requirement.specifier, f"run make constraints: {requirement}"
        assert hashes >= 1
    lines = (_ROOT / "constraints.txt").read_text().count("==")
    assert len(_PINNED) == lines, "each has hashes"


def test_what_the_requirements_require_is_pinned_too() -> None:
    todo = _required()
    seen: set[str] = set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if name in seen or not _applies(requirement):
            continue
        seen.add(name)
        assert name in _PINNED, f"run make constraints: {requirement}"
        try:
            todo += map(Requirement, requires(name) or ())
        except PackageNotFoundError:  # not with this Python
            continue
    assert len(seen) > 30
