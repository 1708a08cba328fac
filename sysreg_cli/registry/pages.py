"""Pagination by the Link header (RFC 8288; distribution API: catalog and tags). No I/O.

Parsed by hand: requests.utils.parse_header_links can do it, but a listing does not import requests.
"""

from __future__ import annotations

import contextlib
import re
from urllib.parse import SplitResult, urljoin, urlsplit

from sysreg_cli.errors import ProtocolError
from sysreg_cli.text import shorten

# Possessive quantifiers (*+, ++) keep these from trying every split of a long row of blanks.
_TARGET = re.compile(r"<([^<>]*+)>")
_PARAMETER = re.compile(r'\s*+;\s*+([A-Za-z*]++)\s*+=\s*+(?:"([^"]*+)"|([^\s;,"]*+))')


def next_page(url: str, link: str) -> str:
    """Return the path and query of the page after ``url``, or an empty text if ``link`` names none.

    Raises ProtocolError for a link to another server or another listing, which must not get the token.
    """
    for target in _next_targets(link):
        here = urlsplit(url)
        if target.isascii() and target.isprintable() and " " not in target:
            with contextlib.suppress(ValueError):
                there = urlsplit(urljoin(url, target))
                if _resource(there) == _resource(here):
                    return f"{there.path}?{there.query}" if there.query else there.path
        raise ProtocolError(
            f"{here.netloc}: the next page of {shorten(here.path)} is not a page of it: {shorten(target)}"
        )
    return ""


def _resource(url: SplitResult) -> tuple[str, str, str]:
    return url.scheme, url.netloc.lower(), url.path


def _next_targets(link: str) -> list[str]:
    """Return the targets of all links whose relation types contain ``next``."""
    targets = []
    position = 0
    while target := _TARGET.search(link, position):
        position = target.end()
        while parameter := _PARAMETER.match(link, position):
            position = parameter.end()
            name, quoted, bare = parameter.groups()
            if name.lower() == "rel" and "next" in (bare if quoted is None else quoted).lower().split():
                targets.append(target[1])
    return targets
