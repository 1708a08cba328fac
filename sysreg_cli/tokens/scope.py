"""Scopes as clients ask for them (distribution token specification, section on the scope grammar).

    scope         = resource { " " resource }
    resource      = type [ "(" class ")" ] ":" name ":" action { "," action }

The name may hold colons (a host with its port), so type and actions are what stands before the first and
behind the last one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from sysreg_cli.errors import UsageError
from sysreg_cli.text import shorten

# A batch of a client of ours asks for 50; 500 repositories of 255 characters are more than a URL may hold.
MOST_SCOPES = 500
_LONGEST_NAME = 512
_LONGEST_SCOPE = 1024

_TYPE = re.compile(r"([a-z0-9][a-z0-9_.-]{0,63})(?:\(([a-z0-9]{1,64})\))?")
_ACTIONS = re.compile(r"(?:[a-z]{1,32}|\*)(?:,(?:[a-z]{1,32}|\*))*")
_NAME = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Scope:
    """One resource that is asked for. The class (``image``, ``plugin``) decides nothing and is dropped."""

    type: str
    name: str
    actions: tuple[str, ...]


def parse_scopes(texts: Iterable[str]) -> tuple[Scope, ...]:
    """The resources of all scope parameters; the same resource twice is one with the actions of both.

    Raises UsageError, quoting what isn't a scope, or saying that there are too many.
    """
    actions: dict[tuple[str, str], dict[str, None]] = {}
    for text in texts:
        for word in text.split(" "):
            if not word:
                continue
            scope = _parse(word)
            actions.setdefault((scope.type, scope.name), {}).update(dict.fromkeys(scope.actions))
            if len(actions) > MOST_SCOPES:
                raise UsageError(
                    f"more than {MOST_SCOPES} scopes", next_step="ask for them in several requests"
                )
    return tuple(Scope(kind, name, tuple(asked)) for (kind, name), asked in actions.items())


def _parse(word: str) -> Scope:
    kind, _, rest = word.partition(":")
    name, _, actions = rest.rpartition(":")
    type_match = _TYPE.fullmatch(kind)
    if (
        len(word) > _LONGEST_SCOPE
        or len(name) > _LONGEST_NAME
        or type_match is None
        or not _NAME.fullmatch(name)
        or not _ACTIONS.fullmatch(actions)
    ):
        raise UsageError(
            f"{shorten(word)} is not a scope", next_step="a scope is repository:NAME:ACTION,ACTION"
        )
    return Scope(type_match.group(1), name, tuple(actions.split(",")))
