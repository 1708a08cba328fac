"""Callers of the agent's API, as programs written for StarlingX's v1 API are."""

from __future__ import annotations

import json
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Any

import pytest
import requests
import urllib3
import urllib3.connection
from requests.adapters import HTTPAdapter

from devstack.controller import Controller
from devstack.endpoints import HOST_NAME
from devstack.images import single


class UnixConnection(urllib3.connection.HTTPConnection):
    """HTTP over a unix socket; the host is its path."""

    def __init__(self, path: str) -> None:
        super().__init__("sysreg-agent", timeout=60)
        self._path = path

    def _new_conn(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(60)
        connection.connect(self._path)
        return connection


class UnixPool(urllib3.HTTPConnectionPool):
    def __init__(self, path: str) -> None:
        super().__init__("sysreg-agent")
        self._path = path

    def _new_conn(self) -> UnixConnection:
        return UnixConnection(self._path)


class UnixAdapter(HTTPAdapter):
    """requests' transport over one unix socket."""

    def __init__(self, path: str) -> None:
        self._pool = UnixPool(path)
        super().__init__()

    def get_connection_with_tls_context(self, *_args: Any, **_options: Any) -> Any:
        return self._pool


_TOKENS: dict[tuple[str, str], str] = {}


@dataclass
class Api:
    """The agent's API over one way: ``tls`` or ``socket``."""

    controller: Controller
    way: str

    def token(self, user: str) -> str:
        """One of ``user``'s tokens; Keystone takes a third of a second for each, so it is asked once."""
        key = (self.controller.auth_url, user)
        if key not in _TOKENS:
            _TOKENS[key] = self._new_token(user)
        return _TOKENS[key]

    def _new_token(self, user: str) -> str:
        from keystoneauth1 import session
        from keystoneauth1.identity import v3

        name, _, domain = user.partition("@")
        project: dict[str, Any] = {
            "project_name": self.controller.openrc(name)["OS_PROJECT_NAME"],
            "project_domain_name": "Default",
        }
        auth = v3.Password(
            self.controller.auth_url,
            username=name,
            password=self.controller.passwords[user],
            user_domain_name=domain or "Default",
            # A user of another domain has no role in our projects; also unscoped, the token names the user.
            **({} if domain else project),
        )
        return str(session.Session(auth=auth).get_token())

    def call(self, method: str, target: str, user: str | None = "admin", **options: Any) -> requests.Response:
        """One call with a token of ``user``; None sends none. Told to come back later, it does."""
        headers = {"X-Auth-Token": self.token(user)} if user else {}
        headers |= options.pop("headers", {})
        with requests.Session() as http:
            http.trust_env = False
            if self.way == "socket":
                http.mount("http://sysreg-agent", UnixAdapter(str(self.controller.paths.agent_socket)))
                base = "http://sysreg-agent"
            else:
                base = f"https://{HOST_NAME}:{self.controller.ports['agent']}"
            while True:
                answer = http.request(
                    method,
                    base + target,
                    headers=headers,
                    timeout=60,
                    verify=str(self.controller.paths.ca_file),
                    **options,
                )
                if answer.status_code != 429:
                    return answer
                time.sleep(float(answer.headers["Retry-After"]))

    def raw(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send these bytes as they are; status, headers and body of the answer."""
        connection: socket.socket
        if self.way == "socket":
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(30)
            connection.connect(str(self.controller.paths.agent_socket))
        else:
            context = ssl.create_default_context(cafile=str(self.controller.paths.ca_file))
            plain = socket.create_connection(("127.0.0.1", self.controller.ports["agent"]), timeout=30)
            connection = context.wrap_socket(plain, server_hostname=HOST_NAME)
        with connection:
            connection.sendall(request)
            received = b""
            while piece := connection.recv(65536):
                received += piece
        head, _, body = received.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return int(status.split()[1]), headers, body


def fault(response: requests.Response) -> str:
    """The reason, read as StarlingX's clients read it."""
    inner = json.loads(response.json()["error_message"])
    assert set(inner) == {"faultstring", "faultcode", "debuginfo"}
    return str(inner["faultstring"])


@pytest.fixture(params=["tls", "socket"])
def api(controller: Controller, request: pytest.FixtureRequest) -> Api:
    return Api(controller, request.param)


@pytest.fixture(scope="session")
def images(controller: Controller) -> list[str]:
    """Repositories of several owners, each with the tag v1."""
    names = ["docker.io/v1/app", "testuser/v1-app", "testuser2/v1-app", "public/v1-app"]
    for name in names:
        controller.client().push(name, "v1", single(seed=name))
    return names
