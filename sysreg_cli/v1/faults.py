"""The body of an error, in the shape of StarlingX's v1 API: JSON text inside a JSON object."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sysreg_cli.v1 import wire


@dataclass(frozen=True, slots=True)
class Fault:
    """What went wrong. ``faultcode`` is ``Client`` for a status below 500, else ``Server``."""

    faultstring: str
    faultcode: str = "Server"
    debuginfo: str | None = None


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The whole body. ``error_message`` is the JSON text of a Fault, ``error`` its faultstring.

    StarlingX's clients read only ``error`` from the response to an install. A body without ``error`` counts
    as success there.
    """

    error_message: str
    error: str = ""


def to_body(status: int, text: str) -> ErrorBody:
    """Build the body of an error response with this HTTP status."""
    return ErrorBody(json.dumps(wire.to_json(Fault(text, "Client" if status < 500 else "Server"))), text)


def text_of(document: Any) -> str:
    """Return the message in an error body, "" if ``document`` is none. Never raises."""
    if not isinstance(document, dict):
        return ""
    message = document.get("error_message")
    try:
        fault = json.loads(message) if isinstance(message, str) else message
    except ValueError:
        return str(message)
    return str(fault.get("faultstring") or "") if isinstance(fault, dict) else ""
