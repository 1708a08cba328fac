"""Asking a token server as a plain HTTP client does, and Keystone for users that a test makes up."""

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
class Reply:
    """An answer of the token server."""

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
        return [f"{one['type']}:{one['name']}:{','.join(one['actions'])}" for one in self.claims["access"]]


def ask(
    controller: Controller,
    user: str | None = "testuser",
    *scopes: str,
    password: str | None = None,
    token: str | None = None,
    agent: str = "tests",
    timeout: float = 60,
    url: str = "",
) -> Reply:
    """GET a token; ``user`` None sends no credentials, or ``token``; known passwords are filled in."""
    auth = None if user is None else (user, password or controller.passwords[user])
    headers = {"User-Agent": agent, **({"X-Auth-Token": token} if token else {})}
    with requests.Session() as http:
        http.trust_env = False
        return Reply(
            http.get(
                url or controller.token_url,
                params={"service": controller.address, "scope": scopes},
                auth=auth,
                headers=headers,
                verify=str(controller.ca_file),
                timeout=timeout,
            )
        )


@contextmanager
def temporary_user(controller: Controller, name: str = "", **options: Any) -> Iterator[tuple[Any, str]]:
    """A user of Keystone (client object, password) who is gone afterwards."""
    keystone = controller.keystone_admin()
    password = f"pw-{uuid.uuid4().hex}"
    user = keystone.users.create(
        name or f"user{uuid.uuid4().hex[:8]}", domain="default", password=password, **options
    )
    try:
        yield user, password
    finally:
        keystone.users.delete(user)


def asked_keystone(controller: Controller) -> int:
    """How often the token server has asked Keystone so far."""
    return sum("sysreg-token-server" in line for line in controller.keystone_requests())


def wait_for_requests(controller: Controller, number: int) -> None:
    """Wait for ``number`` requests of the token server in Keystone's log, which lags behind the responses."""
    wait_until(lambda: asked_keystone(controller) >= number, what=f"Keystone logs {number} requests")
    assert asked_keystone(controller) == number
