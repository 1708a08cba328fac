"""The sample settings ``etc/sysreg/sysreg.conf`` as values: sections, keys with defaults, comments."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

SAMPLE = Path(__file__).resolve().parent.parent / "etc/sysreg/sysreg.conf"


@dataclass(frozen=True)
class Key:
    """A key: its line (``port = 9001``), and the comment above it in the sample."""

    line: str
    comment: str


@dataclass
class Section:
    """A section; ``comment`` is what stands above its first key, apart from that key's own comment."""

    name: str
    comment: str = ""
    keys: list[Key] = field(default_factory=list)


def read() -> tuple[str, list[Section]]:
    """Return the sample's introduction, and its sections in order."""
    introduction, *rest = re.split(r"^#?\[([\w ]+)\]\n", SAMPLE.read_text(), flags=re.MULTILINE)
    text = " ".join(line.lstrip("# ") for line in introduction.splitlines())
    return text, [_section(name, body) for name, body in zip(rest[::2], rest[1::2], strict=True)]


def _section(name: str, body: str) -> Section:
    section = Section(name)
    comment: list[str] = []
    for line in body.splitlines():
        if line.startswith("# "):
            comment.append(line[2:])
        elif line == "#":  # a line without text ends the comment on the section
            section.comment, comment = " ".join(comment), []
        elif line.startswith("#"):
            section.keys.append(Key(line[1:].strip(), " ".join(comment)))
            comment = []
    return section
