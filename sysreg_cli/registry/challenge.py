"""The registry's 401 challenge (RFC 9110 section 11, distribution token specification). No I/O.

Parsed by hand: werkzeug can do it, but its import takes longer than all that `system` imports.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

# `scheme`, if a parameter, another challenge or the end follows. Possessive quantifiers (*+, ++) keep both
# patterns from trying every split of a long row of blanks, which a hostile server may send.
_SCHEME = re.compile(r"\s*+,?+\s*+([A-Za-z0-9_-]++)(?=\s++[A-Za-z0-9_-]++\s*+=|\s*+(?:,|$))")
# `key=token` or `key="quoted"`, inside one challenge
_PARAMETER = re.compile(r'\s*+,?+\s*+([A-Za-z0-9_-]++)\s*+=\s*+(?:"((?:[^"\\]|\\.)*+)"|([^\s,"]*+))')


@dataclass(frozen=True, slots=True)
class Challenge:
    """Where to get a token (``realm``), for which ``service``, and why the last was refused (``error``)."""

    realm: str
    service: str = ""
    error: str = ""


def parse_bearer(values: Iterable[str]) -> Challenge | None:
    """Return the first Bearer challenge with a realm among WWW-Authenticate values, or None."""
    for value in values:
        for scheme, parameters in _challenges(value):
            if scheme == "bearer" and parameters.get("realm"):
                return Challenge(
                    parameters["realm"], parameters.get("service", ""), parameters.get("error", "")
                )
    return None


def _challenges(value: str) -> list[tuple[str, dict[str, str]]]:
    challenges: list[tuple[str, dict[str, str]]] = []
    position = 0
    while position < len(value):
        if challenges and (parameter := _PARAMETER.match(value, position)):
            name, quoted, bare = parameter.groups()
            text = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare
            challenges[-1][1].setdefault(name.lower(), text)
            position = parameter.end()
        elif scheme := _SCHEME.match(value, position):
            challenges.append((scheme.group(1).lower(), {}))
            position = scheme.end()
        else:
            break  # the rest is not a challenge; those before it count
    return challenges
