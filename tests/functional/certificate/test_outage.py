"""During an install the registry is away for no longer than during two restarts."""

from __future__ import annotations

import http.client
import ssl
import subprocess
import threading
import time

import pytest

from tests.functional.certificate.breakable import BreakableController

_EVERY = 0.02


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

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(10 * _EVERY)  # the outage may begin right after the context
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        failing_since: float | None = None
        due = time.monotonic()
        while not self._stop.is_set():
            started = time.monotonic()
            self.requests += 1
            if self._responds():
                if failing_since is not None:
                    self.longest = max(self.longest, time.monotonic() - failing_since)
                failing_since = None
            elif failing_since is None:
                failing_since = started
            due = max(due + _EVERY, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
        assert failing_since is None, "the registry did not come back"

    def _responds(self) -> bool:
        connection = http.client.HTTPSConnection("127.0.0.1", self._port, timeout=10, context=self._context)
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().status == 401
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def test_an_install_costs_no_more_than_two_plain_restarts(
    breakable: BreakableController, capsys: pytest.CaptureFixture[str]
) -> None:
    breakable.start_agent()
    port = breakable.controller.ports["registry"]
    restarts, installs = [], []
    for _ in range(3):
        with Watcher(port) as plain:
            subprocess.run([breakable.service_script, "restart", "docker-registry.service"], check=True)
            time.sleep(0.5)
        with Watcher(port) as changed:
            assert breakable.install(breakable.certificates.new()) == ""
        restarts.append(plain.longest)
        installs.append(changed.longest)
    breakable.stop_agent()
    with capsys.disabled():
        print(f"\noutage: plain restarts {_milliseconds(restarts)}; installs {_milliseconds(installs)}")
    assert sorted(installs)[1] <= 2 * sorted(restarts)[1] + _EVERY


def _milliseconds(seconds: list[float]) -> str:
    return ", ".join(f"{1000 * value:.0f} ms" for value in sorted(seconds))
