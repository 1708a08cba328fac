"""One server of etcd through its JSON gateway: a request, its answer, and what a refusal means.

The gateway translates HTTP to etcd's gRPC calls (etcd's documentation, "gRPC gateway"). In its JSON an int64
is a string, and what is zero, false or empty is absent. docs/behaviour.rst, "etcd", has what was measured.
"""

from __future__ import annotations

import base64
import enum
import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

from sysreg_cli.addresses import HostPort
from sysreg_cli.errors import SettingsError, SysregError, text_of
from sysreg_cli.text import printable

Document = Mapping[str, Any]

#: a list of 60,000 hosts has less
_MAX_BYTES = 64 * 1024 * 1024
_CONNECTIONS = 4


class Refusal(enum.Enum):
    """What etcd's refusal means for the caller."""

    TOKEN = "the token is not accepted"  # noqa: S105
    PASSWORD = "the password is wrong"  # noqa: S105
    RIGHTS = "the user may not do this"
    NO_PASSWORDS = "etcd does not ask for passwords"
    FULL = "its quota is full"
    COMPACTED = "the revision is compacted"
    NOT_FOUND = "there is no such lease"
    EXISTS = "it exists already"
    MISSING = "it does not exist"
    TOO_LARGE = "the request is too large"
    #: it may have been done, and another server may do better
    NO_QUORUM = "it has no quorum"
    OTHER = "another reason"


# A refusal has a gRPC code, which many share, and a text. etcd's own client tells them apart by
# the text, too (etcd's api/v3rpc/rpctypes/error.go).
_TEXTS: Mapping[str, Refusal] = {
    "invalid auth token": Refusal.TOKEN,
    "user name is empty": Refusal.TOKEN,
    "revision of auth store is old": Refusal.TOKEN,
    "authentication failed": Refusal.PASSWORD,
    "permission denied": Refusal.RIGHTS,
    "authentication is not enabled": Refusal.NO_PASSWORDS,
    "database space exceeded": Refusal.FULL,
    "required revision has been compacted": Refusal.COMPACTED,
    "requested lease not found": Refusal.NOT_FOUND,
    "user name already exists": Refusal.EXISTS,
    "role name already exists": Refusal.EXISTS,
    "user name not found": Refusal.MISSING,
    "role name not found": Refusal.MISSING,
    "request is too large": Refusal.TOO_LARGE,
    "no leader": Refusal.NO_QUORUM,
    "leader changed": Refusal.NO_QUORUM,
    "request timed out": Refusal.NO_QUORUM,
}
# In the watch of 3.4 these come with a gRPC code in words and no text of etcd's.
_WORDS: Mapping[str, Refusal] = {
    "Unauthenticated": Refusal.TOKEN,
    "PermissionDenied": Refusal.RIGHTS,
}
# OpenSSL's names of the alerts by which a server refuses the client's certificate.
_CLIENT_REFUSED = (
    "SSLV3_ALERT_BAD_CERTIFICATE",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED",
    "TLSV1_ALERT_UNKNOWN_CA",
)


class Refused(SysregError):
    """etcd answered, and did not do it. ``refusal`` says why."""

    def __init__(self, reason: str) -> None:
        self.reason = printable(reason, 300)
        super().__init__(f"etcd refuses: {self.reason}")
        self.refusal = refusal_of(reason)

    @property
    def of_one_server(self) -> str:
        """The reason as it stands behind the name of the server."""
        has_no_quorum = self.refusal is Refusal.NO_QUORUM
        return f"it has no quorum ({self.reason})" if has_no_quorum else f"it refuses: {self.reason}"


class NoAnswer(SysregError):
    """This server gave no answer that counts.

    ``sent`` says whether it may have got the request, ``timed_out`` whether it was silent. The message is the
    reason alone, to stand behind the name of the server.
    """

    def __init__(self, reason: str, *, sent: bool, timed_out: bool = False) -> None:
        super().__init__(printable(reason, 300))
        self.sent = sent
        self.timed_out = timed_out


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The CA that etcd's servers are trusted by, and the client's certificate with its key. All are PEM."""

    ca: Path
    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """Read the files. Raises SettingsError."""
        try:
            context = ssl.create_default_context(cafile=str(self.ca))
        except (OSError, ssl.SSLError) as error:
            raise SettingsError("no connection to etcd", [f"{self.ca}: {_tls_text(error)}"]) from None
        try:
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            names = f"{self.certificate} and {self.key}"
            raise SettingsError("no connection to etcd", [f"{names}: {_tls_text(error)}"]) from None
        return context


class Gateway:
    """The gateway of one server. Its methods may be called from any thread."""

    def __init__(self, address: HostPort, context: ssl.SSLContext) -> None:
        self.address = address
        self._pool = urllib3.HTTPSConnectionPool(
            address.host, address.port, maxsize=_CONNECTIONS, retries=False, ssl_context=context
        )

    def call(self, path: str, body: Document, *, token: str = "", seconds: float = 3.0) -> Document:
        """Send a request, and return its answer. Raises Refused and NoAnswer."""
        try:
            response = self._post(path, body, token, seconds, hold=False)
            status, content = response.status, response.data
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _no_answer(error, seconds) from None
        document = _parse(content, status)
        if status != 200:
            raise Refused(_reason(document))
        return document

    def stream(
        self, path: str, body: Document, *, token: str, connect: float, silence: float
    ) -> urllib3.BaseHTTPResponse:
        """Send a request whose answer goes on, and return it open: read it with ``lines``, and close it.

        ``silence`` is the number of seconds without a byte after which the server counts as gone.
        Raises Refused and NoAnswer.
        """
        try:
            timeout = urllib3.Timeout(connect=connect, read=silence)
            response = self._post(path, body, token, timeout, hold=True)
            if response.status == 200:
                return response
            with response:
                content = response.read(_MAX_BYTES)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _no_answer(error, silence) from None
        raise Refused(_reason(_parse(content, response.status)))

    def close(self) -> None:
        """Close the connections that nobody uses."""
        self._pool.close()

    def _post(
        self, path: str, body: Document, token: str, timeout: urllib3.Timeout | float, *, hold: bool
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = token
        if hold:
            # without it, the watch of a server that lost its quorum is silent instead of ending
            headers["Grpc-Metadata-hasleader"] = "true"
        return self._pool.urlopen(
            "POST",
            f"/v3/{path}",
            body=json.dumps(body).encode(),
            headers=headers,
            timeout=urllib3.Timeout(total=timeout) if isinstance(timeout, float) else timeout,
            redirect=False,
            retries=False,
            preload_content=not hold,
        )


def lines(response: urllib3.BaseHTTPResponse, silence: float) -> Iterator[Document]:
    """Yield the documents of a stream as they arrive, until the server ends it.

    Raises Refused for one that is an error, and NoAnswer.
    """
    pending = b""
    pieces = response.stream(65536)
    while True:
        try:
            piece = next(pieces, None)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _no_answer(error, silence) from None
        if piece is None:
            return
        *whole, pending = (pending + piece).split(b"\n")
        if len(pending) > _MAX_BYTES:
            raise NoAnswer("sent a message that is too long", sent=True)
        for line in whole:
            if line.strip():
                document = _parse(line, response.status)
                if "error" in document:
                    raise Refused(_reason(document))
                yield document.get("result") or {}


def refusal_of(reason: str) -> Refusal:
    """Return what a text of etcd's means."""
    for table in (_TEXTS, _WORDS):
        for text, refusal in table.items():
            if text in reason:
                return refusal
    return Refusal.OTHER


def encode(content: str | bytes) -> str:
    """Return a key or a value as the gateway wants it."""
    return base64.b64encode(content.encode() if isinstance(content, str) else content).decode()


def decode(content: str) -> bytes:
    """Return what a key or a value of the gateway stands for."""
    return base64.b64decode(content)


def below(prefix: str) -> Document:
    """Return the range of the keys that begin with ``prefix``."""
    after = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    return {"key": encode(prefix), "range_end": encode(after)}


def _parse(content: bytes, status: int) -> Document:
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        # a member that goes down ends a stream with text of its own
        raise NoAnswer(f"its answer ({status}) is not etcd's", sent=True)
    return document


def _reason(document: Document) -> str:
    """Return the text of an error. 3.4 and 3.5 put it into different fields."""
    error = document.get("error")
    if isinstance(error, dict):
        return str(error.get("message") or error)
    return str(document.get("message") or error or document)


def _no_answer(error: Exception, seconds: float) -> NoAnswer:
    inner: BaseException = error
    while (cause := inner.__cause__ or inner.__context__) is not None:
        inner = cause
    # a time-out of the connection is one of urllib3's two errors before a request is sent
    sent = not isinstance(
        error, (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
    )
    if isinstance(inner, TimeoutError):
        return NoAnswer(f"no answer within {seconds:g} s", sent=sent, timed_out=True)
    if isinstance(inner, ssl.SSLCertVerificationError):
        return NoAnswer(f"its certificate is not trusted: {inner.verify_message}", sent=False)
    if isinstance(inner, ssl.SSLError) and inner.reason in _CLIENT_REFUSED:
        return NoAnswer(f"it does not accept this client's certificate: {_tls_text(inner)}", sent=False)
    if isinstance(inner, (ssl.SSLEOFError, http.client.RemoteDisconnected)):
        # etcd says nothing to a client with a revoked certificate; other alerts may be lost behind the end
        return NoAnswer("it ends the connection; it may not accept this client's certificate", sent=sent)
    if isinstance(inner, (ValueError, http.client.IncompleteRead)):  # no whole chunk came
        return NoAnswer("it ended the connection in the middle of an answer", sent=sent)
    text = _tls_text(inner) if isinstance(inner, OSError) else str(inner)
    return NoAnswer(text or type(inner).__name__, sent=sent)


def _tls_text(error: OSError) -> str:
    """Return the reason of an error without the number of OpenSSL's source line."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return str(error.strerror or text_of(error))
