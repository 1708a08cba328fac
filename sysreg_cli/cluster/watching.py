"""A watch on etcd. It ends at the first thing that is not in order; the caller lists and watches again.

etcd leaves these watches open and silent, and this one ends: one that it refused, one whose revisions it has
forgotten, one on a server that froze, and one on a store that went back to an older state.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Sequence

import urllib3

from sysreg_cli.cluster.gateway import (
    Document,
    Gateway,
    NoAnswer,
    Refusal,
    Refused,
    below,
    decode,
    lines,
    refusal_of,
)
from sysreg_cli.cluster.port import Change, Entry, Listing
from sysreg_cli.cluster.servers import Servers
from sysreg_cli.errors import Compacted, SysregError, Unavailable
from sysreg_cli.text import printable


class EtcdWatch:
    """See ``port.Watch``."""

    def __init__(self, servers: Servers, prefix: str, listing: Listing) -> None:
        self._servers = servers
        self._prefix = prefix
        self._about = f"watch {prefix}"
        self._listing = listing
        self._lock = threading.Lock()
        self._response: urllib3.BaseHTTPResponse | None = None
        self._closed = False
        self._is_server_silent = False
        self._token = ""
        self._gateway: Gateway | None = None

    def __iter__(self) -> Iterator[Sequence[Change]]:
        response = self._servers.attempt(self._open, self._about)
        try:
            with self._lock:
                if self._closed:
                    return
                self._response = response
            with self._servers.watched_by(self):
                for message in lines(response, self._servers.limits.silence):
                    yield self._changes(message)
            if not self._closed:
                raise self._ended("the server has ended it")
        except NoAnswer as error:
            if not self._closed:
                raise self._ended(error.message, timed_out=error.timed_out) from None
        except Refused as error:
            raise self._refused(error.refusal, error.message) from None
        finally:
            with self._lock:
                self._response = None
            response.close()

    def close(self) -> None:
        """See ``port.Watch``. The thread that reads gets the end of the connection at once."""
        with self._lock:
            self._closed = True
            self._end_connection()

    def end_if_on(self, gateway: Gateway) -> None:
        """End it if it is a watch on this server, which answered another request too late."""
        with self._lock:
            if self._gateway is gateway:
                self._is_server_silent = True
                self._end_connection()

    def _end_connection(self) -> None:
        # Without the lock the number of the file might be another file's by now.
        if self._response is not None:
            with (
                contextlib.suppress(OSError),
                socket.socket(fileno=os.dup(self._response.fileno())) as connection,
            ):
                connection.shutdown(socket.SHUT_RDWR)

    def _open(self, gateway: Gateway, token: str) -> urllib3.BaseHTTPResponse:
        self._gateway, self._token = gateway, token
        body = {
            "create_request": {
                **below(self._prefix),
                "start_revision": str(self._listing.revision + 1),
                "progress_notify": True,
            }
        }
        limits = self._servers.limits
        return gateway.stream("watch", body, token=token, connect=limits.call, silence=limits.silence)

    def _changes(self, message: Document) -> Sequence[Change]:
        """Return what a message of the watch says. Raises what ends the watch."""
        # before ``created``: a refused watch has both, and the stream stays open
        if message.get("canceled") or message.get("compact_revision"):
            if message.get("compact_revision"):
                raise Compacted(f"etcd has forgotten the changes up to {message['compact_revision']}")
            reason = str(message.get("cancel_reason") or "no reason given")
            raise self._refused(refusal_of(reason), reason)
        header = message["header"]
        if str(header["cluster_id"]) != self._listing.identity.cluster:
            raise self._ended("it is another cluster than before")
        if message.get("created") and int(header["revision"]) < self._listing.revision:
            raise self._ended("the store went back to an older state")
        return [_change(event) for event in message.get("events") or ()]

    def _refused(self, refusal: Refusal, reason: str) -> SysregError:
        if refusal is Refusal.TOKEN:
            self._servers.forget_token(self._token)
            return self._ended("the token has expired")
        if refusal in (Refusal.OTHER, Refusal.NO_QUORUM):
            return self._ended(printable(reason, 300))
        return self._servers.meaning(refusal, reason, self._about)

    def _ended(self, reason: str, *, timed_out: bool = False) -> Unavailable:
        assert self._gateway is not None
        if self._is_server_silent:
            reason = "the server is silent"
        self._servers.leave(self._gateway, timed_out=timed_out)
        return Unavailable(f"the watch on etcd at {self._gateway.address} ended: {reason}")


def entry_of(item: Document) -> Entry:
    """Return what the gateway's form of a key and a value says."""
    return Entry(
        decode(item["key"]).decode(),
        decode(item.get("value", "")),
        int(item["mod_revision"]),
        int(item.get("lease", 0)),
    )


def _change(event: Document) -> Change:
    # the header's revision is the store's, not that of the event
    entry = entry_of(event["kv"])
    return Change(entry.key, entry.revision, None if event.get("type") == "DELETE" else entry)
