"""Reads a settings file (INI), and reports all of its problems at once, each with file and line.

The syntax is that of ``configparser``: ``[section]``, ``key = value``, comments that begin with # or ;, and
values that continue on deeper indented lines. configparser itself stops at the first error, and keeps no
line numbers.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from sysreg_cli.errors import SettingsError
from sysreg_cli.settings.schema import RetentionSettings, Settings

DEFAULT_PATH = Path("/etc/sysreg/sysreg.conf")

_SECTIONS: dict[str, Any] = {
    section.name: section.default_factory for section in fields(Settings) if section.name != "retention"
}
_RETENTION = re.compile(r"retention ([A-Za-z0-9._-]{1,63})")

#: line and text
_Problem = tuple[int, str]


def load(
    path: Path | None = None, environ: Mapping[str, str] = os.environ, default: Path = DEFAULT_PATH
) -> Settings:
    """Read the settings from ``path``, else from SYSREG_CONF, else from ``default``.

    If the file ``default`` does not exist, each key has its default value. A file that was named must exist.
    Raises SettingsError.
    """
    named = path or (Path(environ["SYSREG_CONF"]) if environ.get("SYSREG_CONF") else None)
    source = named or default
    try:
        text = source.read_text(encoding="utf-8")
    except FileNotFoundError:
        if named is None:
            return Settings()
        raise _refused([f"{source}: no such file"]) from None
    except UnicodeDecodeError:
        raise _refused([f"{source}: is not UTF-8 text"]) from None
    except OSError as error:
        raise _refused([f"{source}: {error.strerror or 'cannot be read'}"]) from None
    return parse(text, str(source))


def parse(text: str, source: str) -> Settings:
    """Parse the text of a settings file. ``source`` names it in messages. Raises SettingsError."""
    entries, problems, found = _read(text)
    sections: dict[str, dict[str, Any]] = {section: {} for section in found}
    for (section, key), entry in entries.items():
        parsers = {known.name: known.metadata["parse"] for known in fields(_kind(section))}
        if key not in parsers:
            problems.append((entry.line, f"unknown key {key} in section [{section}]"))
            continue
        try:
            sections[section][key] = parsers[key]("\n".join(entry.lines).strip())
        except ValueError as error:
            problems.append((entry.line, f"{key}: {error}"))
    settings = Settings()
    if not problems:
        settings = _settings(sections)
        problems += _clashes(settings, {place: entry.line for place, entry in entries.items()})
        problems += _useless_rules(settings, found)
    if problems:
        raise _refused([f"{source}:{line}: {problem}" for line, problem in sorted(problems)])
    return settings


@dataclass(slots=True)
class _Entry:
    """The value of a key, with the line and the indentation of the key."""

    line: int
    indent: int
    lines: list[str] = field(default_factory=list)


def _kind(section: str) -> Any:
    """Return the dataclass of a section, None if there is no such section."""
    return RetentionSettings if _RETENTION.fullmatch(section) else _SECTIONS.get(section)


def _settings(sections: Mapping[str, Mapping[str, Any]]) -> Settings:
    made = {name: _kind(name)(**values) for name, values in sections.items()}
    retention = {match[1]: made.pop(name) for name in sections if (match := _RETENTION.fullmatch(name))}
    return Settings(**made, retention=retention)


def _read(text: str) -> tuple[dict[tuple[str, str], _Entry], list[_Problem], dict[str, int]]:
    """Return what the known sections contain, by section and key, what is wrong, and the sections' lines."""
    entries: dict[tuple[str, str], _Entry] = {}
    problems: list[_Problem] = []
    seen: set[str] = set()
    found: dict[str, int] = {}
    section = ""
    entry: _Entry | None = None
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        indent = len(raw) - len(raw.lstrip())
        if entry is not None and indent > entry.indent:
            entry.lines.append(line)
            continue
        entry = None
        if header := re.match(r"\[(.+)\]", line):
            section = header[1]
            if section in seen:
                problems.append((number, f"second section [{section}]"))
            elif _kind(section) is None:
                known = ", ".join(sorted([*_SECTIONS, "retention NAME"]))
                problems.append((number, f"unknown section [{section}] (known: {known})"))
            else:
                found[section] = number
            seen.add(section)
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        entry = _Entry(number, indent, [value])
        if not section:
            problems.append((number, "before any [section]"))
        elif not key or not equals:
            problems.append((number, f"not `key = value`: {line!r}"))
        elif (section, key.lower()) in entries:
            problems.append((number, f"second {key.lower()} in section [{section}]"))
        elif _kind(section) is not None:
            entries[section, key.lower()] = entry
    return entries, problems, found


def _useless_rules(settings: Settings, lines: Mapping[str, int]) -> Iterator[_Problem]:
    """Yield each section [retention NAME] that names no images, or does not say which tags go."""
    for name, rule in settings.retention.items():
        line = lines[f"retention {name}"]
        if not rule.images:
            yield line, f"section [retention {name}] needs images"
        if not rule.has_condition:
            yield line, f"section [retention {name}] needs keep, older_than or match"


def _clashes(settings: Settings, lines: Mapping[tuple[str, str], int]) -> Iterator[_Problem]:
    """Yield each pair of services that would listen at the same place."""
    for (place, listener), (place_2, listener_2) in itertools.combinations(settings.listeners.items(), 2):
        if listener.overlaps(listener_2):
            # the defaults don't clash, so at least one is in the file: name the later one
            later, (section, key) = sorted((place, place_2), key=lambda at: lines.get(at, 0), reverse=True)
            problem = f"{later[1]}: port {listener.port} is already that of {key} in section [{section}]"
            yield lines.get(later, 0), problem


def _refused(problems: list[str]) -> SettingsError:
    return SettingsError("settings refused", problems)
