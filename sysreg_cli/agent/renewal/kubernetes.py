"""Kubernetes' API, as far as a secret needs it: list, and watch from there on.

The protocol is that of https://kubernetes.io/docs/reference/using-api/api-concepts/, "Efficient detection of
changes". Both requests name the one secret in a field selector, so a role that allows ``get``, ``list`` and
``watch`` for this name alone is enough.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

import urllib3
from urllib3.connection import HTTPConnection

from sysreg_cli.agent.renewal.kubeconfig import Cluster
from sysreg_cli.errors import BY_STATUS, ProtocolError, SysregError, Unavailable
from sysreg_cli.settings import SecretSource
from sysreg_cli.text import printable

#: the server ends a watch after this time
_WATCH_SECONDS = 300
_CONNECT_SECONDS = 10.0
_READ_SECONDS = 30.0
#: a secret has 1 MiB at most, and base64 makes it longer
_MAX_BYTES = 4 * 1024 * 1024
# a server that vanished without a word is noticed after half a minute
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)


class Gone(SysregError):
    """The server does not know the changes since that version any more. The list has to be read again."""


@dataclass(frozen=True, slots=True)
class SecretState:
    """A secret at one version: its data, decoded as far as JSON goes; None if it does not exist.

    Without ``changed``, only the version is new (a bookmark).
    """

    version: str
    data: Mapping[str, Any] | None = field(default=None, repr=False)
    changed: bool = True


class Api:
    """A connection to the API. Methods raise SysregError; Gone and Unavailable are among them."""

    def __init__(self, cluster: Cluster, secret: SecretSource) -> None:
        self._cluster = cluster
        self._secret = secret
        self._pool = urllib3.HTTPSConnectionPool(
            cluster.host,
            cluster.port,
            maxsize=1,
            retries=False,
            ssl_context=cluster.context,
            server_hostname=cluster.server_name,
            socket_options=[*HTTPConnection.default_socket_options, *_KEEPALIVE],
        )

    def __enter__(self) -> Api:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.close()

    def read(self) -> SecretState:
        """Return the secret as it is now."""
        try:
            response = self._get({}, _READ_SECONDS)
            try:
                body = response.read(_MAX_BYTES)
            finally:
                response.close()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._unavailable(error) from None
        listed = _parse(body)
        try:
            version = str(listed["metadata"]["resourceVersion"])
            found = [item for item in listed["items"] or () if self._is_ours(item)]
            return SecretState(version, dict(found[0].get("data") or {}) if found else None)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ProtocolError("Kubernetes' response is not a list of secrets") from None

    def watch(self, version: str) -> Iterator[SecretState]:
        """Yield the changes after ``version``, until the server ends the response.

        Raises Gone if the server does not know ``version`` any more.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        try:
            response = self._get(query, _WATCH_SECONDS + _READ_SECONDS)
            try:
                for line in _lines(response):
                    if (state := self._state(_parse(line))) is not None:
                        yield state
            finally:
                response.close()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._unavailable(error) from None

    def _get(self, query: Mapping[str, str], read_seconds: float) -> urllib3.BaseHTTPResponse:
        selector = {"fieldSelector": f"metadata.name={self._secret.name}"}
        path = f"{self._cluster.path}/api/v1/namespaces/{self._secret.namespace}/secrets"
        response = self._pool.request(
            "GET",
            f"{path}?{urlencode({**selector, **query})}",
            headers={"Accept": "application/json", "User-Agent": "sysreg-agent", **self._cluster.headers},
            timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=read_seconds),
            redirect=False,
            preload_content=False,
        )
        if response.status != 200:
            try:
                raise self._refusal(response.status, _message(response.read(_MAX_BYTES)))
            finally:
                response.close()
        return response

    def _state(self, event: Mapping[str, Any]) -> SecretState | None:
        """Return what an event says; None if it is about another object. Raises Gone, SysregError."""
        try:
            kind, item = event["type"], event["object"]
            if kind == "ERROR":
                raise self._refusal(int(item.get("code") or 500), str(item.get("message") or ""))
            version = str(item["metadata"]["resourceVersion"])
            if kind == "BOOKMARK":
                return SecretState(version, changed=False)
            if not self._is_ours(item):
                return None
            return SecretState(version, None if kind == "DELETED" else dict(item.get("data") or {}))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ProtocolError("Kubernetes' watch sent what is not an event") from None

    def _is_ours(self, item: Mapping[str, Any]) -> bool:
        return bool(item["metadata"]["name"] == self._secret.name)

    def _refusal(self, status: int, reason: str) -> SysregError:
        if status == 410:
            return Gone("the version is gone")
        kind = BY_STATUS.get(status, Unavailable)
        return kind(f"Kubernetes at {self._place} answers {status}: {printable(reason, 300)}")

    def _unavailable(self, error: Exception) -> Unavailable:
        return Unavailable(f"Kubernetes at {self._place} cannot be reached: {printable(_reason(error), 300)}")

    @property
    def _place(self) -> str:
        return f"{self._cluster.host}:{self._cluster.port}"


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """Yield the lines of a response as they arrive. Raises ProtocolError for one that is too long."""
    pending = b""
    for piece in response.stream(65536):
        *whole, pending = (pending + piece).split(b"\n")
        yield from (line for line in whole if line.strip())
        if len(pending) > _MAX_BYTES:
            raise ProtocolError("Kubernetes' watch sent an event that is too long")


def _parse(body: bytes) -> Mapping[str, Any]:
    try:
        parsed = json.loads(body)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise ProtocolError("Kubernetes' response is not JSON")
    return parsed


def _message(body: bytes) -> str:
    """Return the text of a response that is an error."""
    try:
        return str(_parse(body).get("message") or "")
    except ProtocolError:
        return body[:300].decode("utf-8", "replace")


def _reason(error: BaseException) -> str:
    """Return the text of the error behind one of urllib3's, whose own text names Python's objects."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
