"""Requests tokens as a plain HTTP client does, and creates users in Keystone."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests

from devstack.controller import Controller
from devstack.waiting import wait_until


@dataclass(frozen=True)
class TokenResponse:
    """A response of the token server."""

    http: requests.Response

    @property
    def status(self) -> int:
        return self.http.status_code

    @property
    def message(self) -> str:
        return str(self.http.json()["errors"][0]["message"])

    @property
    def claims(self) -> dict[str, Any]:
        payload = self.http.json()["token"].split(".")[1]
        claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=="))
        return claims

    @property
    def access(self) -> list[str]:
        """What the token allows: type:name:action,action."""
        assert self.status == 200, self.http.text
        return [
            f"{entry['type']}:{entry['name']}:{','.join(entry['actions'])}" for entry in self.claims["access"]
        ]


def request_token(
    controller: Controller,
    user: str | None = "testuser",
    *scopes: str,
    password: str | None = None,
    token: str | None = None,
    agent: str = "tests",
    timeout: float = 60,
    url: str = "",
) -> TokenResponse:
    """GET a token with the password of ``user``, or with ``token``, or without credentials."""
    auth = None if user is None else (user, password or controller.passwords[user])
    headers = {"User-Agent": agent, **({"X-Auth-Token": token} if token else {})}
    with requests.Session() as http:
        http.trust_env = False
        return TokenResponse(
            http.get(
                url or controller.token_url,
                params={"service": controller.address, "scope": scopes},
                auth=auth,
                headers=headers,
                verify=str(controller.paths.ca_file),
                timeout=timeout,
            )
        )


@contextmanager
def temporary_user(controller: Controller, name: str = "", **options: Any) -> Iterator[tuple[Any, str]]:
    """Create a user in Keystone; yield the client object and the password; remove the user afterwards."""
    keystone = controller.keystone_admin()
    password = f"pw-{uuid.uuid4().hex}"
    user = keystone.users.create(
        name or f"user{uuid.uuid4().hex[:8]}", domain="default", password=password, **options
    )
    try:
        yield user, password
    finally:
        keystone.users.delete(user)


def keystone_requests(controller: Controller) -> int:
    """The number of requests from the token server in Keystone's log."""
    return sum("sysreg-token-server" in line for line in controller.keystone_requests())


def wait_for_requests(controller: Controller, number: int) -> None:
    """Wait for ``number`` requests of the token server in Keystone's log, which lags behind the responses."""
    wait_until(lambda: keystone_requests(controller) >= number, what=f"Keystone logs {number} requests")
    assert keystone_requests(controller) == number
