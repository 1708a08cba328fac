"""What the tests of the token API ask for, and who knows the users."""

from __future__ import annotations

import asyncio

from sysreg_cli.errors import NotAuthenticated, Unavailable
from sysreg_cli.token_server.credentials import Credentials
from sysreg_cli.token_server.keystone import Authentication
from sysreg_cli.tokens.grants import Identity
from tests.unit.token_server.asgi import Response

PUSH = "scope=repository:testuser/a:push,pull&service=registry.local:9001"
PULL = "scope=repository:testuser/a:pull"
FORM = (b"content-type", b"application/x-www-form-urlencoded")


def keystone(credentials: Credentials) -> Authentication:
    """Knows everybody whose password is `right`, or down if it is `down`."""
    if credentials.secret == "down":
        raise Unavailable("Keystone at http://x can't be asked: no connection")
    if credentials.secret != "right":
        raise NotAuthenticated("Keystone refused the user or the password")
    return Authentication(Identity(credentials.name), 3600)


def run(coroutine: object) -> Response:
    return asyncio.run(asyncio.wait_for(coroutine, 20))  # type: ignore[arg-type]


def message(response: Response) -> str:
    text = response.json()["errors"][0]["message"]
    assert isinstance(text, str)
    return text
