"""A client that notices when the registry is away, and for how long."""

from __future__ import annotations

import http.client
import ssl
import threading
import time

from devstack.waiting import wait_until

EVERY = 0.02
# So many good responses in a row take half a second: no outage follows.
_SETTLED = 25


class Watcher:
    """Requests /v2/ every 20 ms on a new connection, and measures the outages.

    ``outages`` holds the monotonic times of the first request that failed and of the next that did not.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._thread = threading.Thread(target=self._watch)
        self.requests = 0
        self.outages: list[tuple[float, float]] = []
        self._good_in_a_row = 0

    @property
    def longest(self) -> float:
        """The seconds of the longest outage."""
        return max((end - begin for begin, end in self.outages), default=0.0)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._good_in_a_row = 0  # the outage may begin now
        try:
            wait_until(lambda: self._good_in_a_row >= _SETTLED, 30, what="the registry is back")
        finally:
            self._stop.set()
            self._thread.join()

    def _watch(self) -> None:
        failing_since: float | None = None
        due = time.monotonic()
        while not self._stop.is_set():
            started = time.monotonic()
            self.requests += 1
            if self._responds():
                self._good_in_a_row += 1
                if failing_since is not None:
                    self.outages.append((failing_since, time.monotonic()))
                failing_since = None
            else:
                self._good_in_a_row = 0
                failing_since = failing_since or started
            due = max(due + EVERY, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))

    def _responds(self) -> bool:
        connection = http.client.HTTPSConnection("127.0.0.1", self._port, timeout=10, context=self._context)
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().status == 401
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
