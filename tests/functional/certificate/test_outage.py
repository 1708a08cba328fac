"""During an install the registry is away for no longer than during two restarts."""

from __future__ import annotations

import http.client
import ssl
import subprocess
import threading
import time

from devstack.waiting import wait_until
from tests.functional.certificate.breakable import BreakableController

_EVERY = 0.02
# So many good responses in a row take half a second: no outage follows.
_SETTLED = 25


class Watcher:
    """Requests /v2/ every 20 ms on a new connection, and measures the longest outage."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._thread = threading.Thread(target=self._watch)
        self.requests = 0
        self.longest = 0.0
        self._good_in_a_row = 0

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
                    self.longest = max(self.longest, time.monotonic() - failing_since)
                failing_since = None
            else:
                self._good_in_a_row = 0
                failing_since = failing_since or started
            due = max(due + _EVERY, time.monotonic())
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


def test_an_install_costs_no_more_than_two_plain_restarts(breakable: BreakableController) -> None:
    breakable.start_agent()
    port = breakable.controller.ports["registry"]
    restarts, installs = [], []
    for _ in range(3):
        with Watcher(port) as plain:
            subprocess.run([breakable.service_script, "restart", "docker-registry.service"], check=True)
        with Watcher(port) as changed:
            assert breakable.install(breakable.certificates.new()) == ""
        restarts.append(plain.longest)
        installs.append(changed.longest)
    breakable.stop_agent()
    assert sorted(installs)[1] <= 2 * sorted(restarts)[1] + _EVERY, (installs, restarts)
