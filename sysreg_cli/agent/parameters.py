"""Parses parameters of requests."""

from __future__ import annotations

import re

from starlette.requests import Request

from sysreg_cli.errors import UsageError

_FLAGS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("", "0", "false", "no", "off"), False),
}


def flag(request: Request, name: str) -> bool:
    """Return a flag of the query string, False if it is missing. Raises UsageError."""
    return parse_flag(request.query_params.get(name, ""), name)


def parse_flag(text: str, name: str) -> bool:
    """Return the flag ``name`` that ``text`` means. Raises UsageError."""
    try:
        return _FLAGS[text.lower()]
    except KeyError:
        raise UsageError(f"{name} is neither True nor False") from None


def seconds(request: Request, name: str, default: float, *, maximum: int) -> float:
    """Return a number of seconds in the query string, from 0 to ``maximum``. Raises UsageError."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) > maximum:
        raise UsageError(f"{name} is not a whole number of seconds from 0 to {maximum}")
    return float(text)


def number(request: Request, name: str, minimum: int, maximum: int) -> int | None:
    """Return a whole number in the query string, None if it is missing. Raises UsageError."""
    text = request.query_params.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text) or not minimum <= int(text) <= maximum:
        raise UsageError(f"{name} is not a whole number from {minimum} to {maximum}")
    return int(text)


def serial_number(request: Request, name: str) -> int | None:
    """Return the serial number of a certificate in the query string, None if missing. Raises UsageError."""
    text = request.query_params.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,60}", text):
        raise UsageError(f"{name} is not the serial number of a certificate in decimal")
    return int(text)
