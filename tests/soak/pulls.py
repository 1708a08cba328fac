"""Pulls on a host, as docker or containerd there would pull, without their retries.

As Go's HTTP client does, they send a request again, over a new connection, if the server has closed the
earlier one between two requests. A connection has as much time as there, too.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import socket
import ssl
import threading
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from devstack.endpoints import HOST_NAME, NAMESPACE_ADDRESS, USUAL_PORTS
from devstack.images import OCI_MANIFEST
from devstack.namespace import entered_network
from tests.functional.worker.processes import WorkerProcess
from tests.functional.worker.site import IMAGE

_PAUSE = 0.4
_TIMEOUT = 30.0
_TOKEN_SECONDS = 60.0


@dataclass(frozen=True)
class FailedPull:
    """Times are those of time.monotonic."""

    host: str
    client: str
    begin: float
    end: float
    reason: str


class Puller(threading.Thread):
    """Pulls on one host until ``ended``, with docker's trust and with containerd's in turn."""

    def __init__(self, worker: WorkerProcess, password: str, ended: threading.Event) -> None:
        super().__init__(daemon=True)
        self.worker = worker
        self.ended = ended
        self.done = 0
        self.failed: list[FailedPull] = []
        self._login = base64.b64encode(f"testuser:{password}".encode()).decode()
        self._token, self._until = "", 0.0

    def run(self) -> None:
        assert self.worker.machine is not None
        with entered_network(self.worker.machine.pid):
            while not self.ended.wait(_PAUSE):
                client = "containerd" if self.done % 2 else "docker"
                begin = time.monotonic()
                try:
                    self._pull(client)
                    self.done += 1
                except (OSError, http.client.HTTPException, AssertionError) as error:
                    reason = f"{type(error).__name__}: {error}"
                    self.failed.append(FailedPull(self.worker.name, client, begin, time.monotonic(), reason))

    def _pull(self, client: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        for path in self._anchors(client):
            with contextlib.suppress(FileNotFoundError):  # it was just replaced
                context.load_verify_locations(path)
        token = self._fresh_token(context)
        headers = {"Authorization": f"Bearer {token}", "Accept": OCI_MANIFEST}
        with _Connection("registry", context) as registry:
            manifest = json.loads(registry.get(f"/v2/{IMAGE}/manifests/1", headers))
            for descriptor in (manifest["config"], *manifest["layers"]):
                content = registry.get(f"/v2/{IMAGE}/blobs/{descriptor['digest']}", headers)
                assert descriptor["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"

    def _anchors(self, client: str) -> list[Path]:
        """The files by which the client trusts the registry, as this process reaches them."""
        address = f"{HOST_NAME}:{USUAL_PORTS['registry']}"
        if client == "docker":
            return list((self.worker.docker / address).glob("*.crt"))
        document = tomllib.loads((self.worker.containerd / address / "hosts.toml").read_text())
        named = [Path(name) for host in document["host"].values() for name in host["ca"]]
        return [self.worker.path(path) for path in named]

    def _fresh_token(self, context: ssl.SSLContext) -> str:
        if time.monotonic() >= self._until:
            with _Connection("token_server", context) as server:
                path = f"/token/?service={HOST_NAME}:9001&scope=repository:{IMAGE}:pull"
                answer = json.loads(server.get(path, {"Authorization": f"Basic {self._login}"}))
            self._token, self._until = answer["token"], time.monotonic() + _TOKEN_SECONDS
        return self._token


class _Connection:
    """A connection to a server of the controller."""

    def __init__(self, server: str, context: ssl.SSLContext) -> None:
        self._address = (NAMESPACE_ADDRESS, USUAL_PORTS[server])
        self._context = context
        self._is_used = False

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._http.close()

    def _open(self) -> None:
        self._http = http.client.HTTPConnection(HOST_NAME, timeout=_TIMEOUT)
        plain = socket.create_connection(self._address, timeout=_TIMEOUT)
        try:
            self._http.sock = self._context.wrap_socket(plain, server_hostname=HOST_NAME)
        except BaseException:
            plain.close()
            raise
        self._is_used = False

    def get(self, path: str, headers: dict[str, str]) -> bytes:
        try:
            response = self._request(path, headers)
        except (http.client.RemoteDisconnected, ConnectionError):
            if not self._is_used:
                raise
            self._http.close()
            self._open()
            response = self._request(path, headers)
        content = response.read()
        assert response.status == 200, f"{response.status} {content[:200]!r}"
        self._is_used = True
        return content

    def _request(self, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        self._http.request("GET", path, headers=headers)
        return self._http.getresponse()
