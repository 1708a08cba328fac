"""Pagination by the Link header (RFC 8288; distribution API: catalog and tags), pure."""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

from sysreg_cli.errors import ProtocolError
from sysreg_cli.reference import shorten

_LINK = re.compile(r'<([^<>]*)>((?:\s*;\s*[A-Za-z*]+\s*=\s*(?:"[^"]*"|[^\s;,"]*))*)')
_NEXT = re.compile(r';\s*rel\s*=\s*"?(?:[^";,]*\s)?next(?:\s[^";,]*)?"?\s*(?:;|$)', re.IGNORECASE)


def next_page(url: str, link: str) -> str:
    """The path and query of the page after ``url``, or an empty text if ``link`` names none.

    Raises ProtocolError for a link that leaves the registry, or the listing: following it would send our
    token to somebody else.
    """
    for target, parameters in _LINK.findall(link):
        if not _NEXT.search(parameters):
            continue
        here = urlsplit(url)
        try:
            there = urlsplit(urljoin(url, target))
            if not (target.isascii() and target.isprintable()) or " " in target:
                raise ValueError(target)  # noqa: TRY301
        except ValueError:
            raise ProtocolError(
                f"{here.netloc}: the next page of the listing is no URL: {shorten(target)}"
            ) from None
        if (here.scheme, here.netloc.lower()) != (there.scheme, there.netloc.lower()):
            raise ProtocolError(
                f"{here.netloc}: the next page of the listing is elsewhere: {shorten(target)}"
            )
        if here.path != there.path:
            raise ProtocolError(
                f"{here.netloc}: the next page of {shorten(here.path)} is another listing: {shorten(target)}"
            )
        return f"{there.path}?{there.query}" if there.query else there.path
    return ""
