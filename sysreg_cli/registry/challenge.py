"""The registry's 401 challenge (RFC 9110 section 11, distribution token specification), pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

# `key=token` or `key="quoted"`, inside one challenge.
_PARAMETER = re.compile(r'\s*,?\s*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))')
_SCHEME = re.compile(r"\s*,?\s*([A-Za-z0-9_-]+)(?=\s+[A-Za-z0-9_-]+\s*=|\s*(?:,|$))")


@dataclass(frozen=True, slots=True)
class Challenge:
    """Where to get a token (``realm``), for whom (``service``), why the last one was refused (``error``)."""

    realm: str
    service: str = ""
    error: str = ""


def parse_bearer(values: Iterable[str]) -> Challenge | None:
    """The first Bearer challenge with a realm among WWW-Authenticate values; None if there is none."""
    for value in values:
        for scheme, parameters in _challenges(value):
            if scheme == "bearer" and parameters.get("realm"):
                return Challenge(
                    parameters["realm"], parameters.get("service", ""), parameters.get("error", "")
                )
    return None


def _challenges(value: str) -> list[tuple[str, dict[str, str]]]:
    found: list[tuple[str, dict[str, str]]] = []
    position = 0
    while position < len(value):
        if found and (pair := _PARAMETER.match(value, position)):
            name, quoted, bare = pair.groups()
            text = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare
            found[-1][1].setdefault(name.lower(), text)
            position = pair.end()
        elif scheme := _SCHEME.match(value, position):
            found.append((scheme.group(1).lower(), {}))
            position = scheme.end()
        else:
            break  # what follows is no challenge; what came before still counts
    return found
