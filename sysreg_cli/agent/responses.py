"""Error responses in the shape that StarlingX's clients read (docs/contracts.rst, "The agent's API")."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from sysreg_cli.errors import NotAuthenticated, SysregError
from sysreg_cli.v1 import faults, wire


def error_response(error: SysregError, keystone_url: str) -> Response:
    """Return the response for ``error``. ``keystone_url`` is where a caller gets a token."""
    headers = {}
    if isinstance(error, NotAuthenticated):
        # as keystonemiddleware writes it: httplib2 raises ValueError for a challenge without a parameter
        headers["WWW-Authenticate"] = f'Keystone uri="{keystone_url}"'
    if error.http_status == 503:
        headers["Retry-After"] = "5"
    return fault(error.http_status, str(error), headers)


def fault(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    """Return an error response with this HTTP status and message."""
    return JSONResponse(wire.to_json(faults.to_body(status, text)), status, headers)
