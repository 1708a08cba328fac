"""Parses the scopes that clients ask for (distribution token specification, scope grammar).

    scope         = resource { " " resource }
    resource      = type [ "(" class ")" ] ":" name ":" action { "," action }
    action        = { "a" ... "z" } | "*"

A name may contain colons (a host with its port), so the type ends at the first colon and the actions begin
after the last one. An action may be empty, and asks for nothing: ``repository:app:`` is a scope.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from sysreg_cli.errors import UsageError
from sysreg_cli.text import shorten
from sysreg_cli.tokens.access import Access

# The `system` command asks for 32 at a time. A URL has no room for 500 repositories of 255 characters.
MAX_SCOPES = 500
_MAX_NAME = 512
_MAX_SCOPE = 1024

_TYPE = re.compile(r"([a-z0-9][a-z0-9_.-]{0,63})(?:\(([a-z0-9]{1,64})\))?")
_ACTIONS = re.compile(r"(?:[a-z]*|\*)(?:,(?:[a-z]*|\*))*")
_NAME = re.compile(r"[\x21-\x7e]+")


def parse_scopes(texts: Iterable[str]) -> tuple[Access, ...]:
    """Parse all scope parameters of a request. A resource that occurs twice gets the actions of both.

    Drops the class of a resource (``image``, ``plugin``), because nothing depends on it. Raises UsageError,
    which quotes what is not a scope, or says that there are too many.
    """
    actions: dict[tuple[str, str], dict[str, None]] = {}
    for scope in filter(None, " ".join(texts).split(" ")):
        access = _parse(scope)
        actions.setdefault((access.type, access.name), {}).update(dict.fromkeys(access.actions))
        if len(actions) > MAX_SCOPES:
            raise UsageError(f"more than {MAX_SCOPES} scopes", next_step="ask for them in several requests")
    return tuple(Access(*resource, tuple(requested)) for resource, requested in actions.items())


def _parse(scope: str) -> Access:
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    type_match = _TYPE.fullmatch(kind)
    if (
        len(scope) > _MAX_SCOPE
        or len(name) > _MAX_NAME
        or type_match is None
        or not _NAME.fullmatch(name)
        or not _ACTIONS.fullmatch(actions)
    ):
        raise UsageError(
            f"{shorten(scope)} is not a scope", next_step="a scope is repository:NAME:ACTION,ACTION"
        )
    return Access(type_match.group(1), name, tuple(filter(None, actions.split(","))))
