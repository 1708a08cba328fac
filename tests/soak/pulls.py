"""Pulls on a host, as docker or containerd there would pull, without their retries."""

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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from devstack.endpoints import HOST_NAME, NAMESPACE_ADDRESS, USUAL_PORTS
from devstack.images import OCI_MANIFEST
from devstack.namespace import entered_network
from tests.functional.worker.processes import WorkerProcess
from tests.functional.worker.site import IMAGE

_PAUSE = 0.4
_TIMEOUT = 5.0
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
        with _connection("registry", context) as registry:
            headers = {"Authorization": f"Bearer {token}", "Accept": OCI_MANIFEST}
            manifest = json.loads(_get(registry, f"/v2/{IMAGE}/manifests/1", headers))
            for descriptor in (manifest["config"], *manifest["layers"]):
                content = _get(registry, f"/v2/{IMAGE}/blobs/{descriptor['digest']}", headers)
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
            with _connection("token_server", context) as server:
                path = f"/token/?service={HOST_NAME}:9001&scope=repository:{IMAGE}:pull"
                answer = json.loads(_get(server, path, {"Authorization": f"Basic {self._login}"}))
            self._token, self._until = answer["token"], time.monotonic() + _TOKEN_SECONDS
        return self._token


@contextlib.contextmanager
def _connection(server: str, context: ssl.SSLContext) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(HOST_NAME, timeout=_TIMEOUT)
    plain = socket.create_connection((NAMESPACE_ADDRESS, USUAL_PORTS[server]), timeout=_TIMEOUT)
    with plain, context.wrap_socket(plain, server_hostname=HOST_NAME) as connection.sock:
        yield connection


def _get(connection: http.client.HTTPConnection, path: str, headers: dict[str, str]) -> bytes:
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    content = response.read()
    assert response.status == 200, f"{response.status} {content[:200]!r}"
    return content
