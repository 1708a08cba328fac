"""Who may be writing, as the registry's metrics show it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from sysreg_cli.addresses import HostPort
from sysreg_cli.agent.garbage.drain import Drain, DrainTimeouts
from sysreg_cli.agent.garbage.writers import writing_handlers
from sysreg_cli.errors import Unavailable
from sysreg_cli.host.registry_config import RegistryConfig

NOWHERE = HostPort("127.0.0.1", 1)
Metrics = tuple[RegistryConfig, list[dict[str, int]]]


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    """A debug address that shows one entry of the list after the other, and stays at the last."""
    shown: list[dict[str, int]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            values = shown.pop(0) if len(shown) > 1 else shown[0]
            body = "".join(
                f'registry_http_in_flight_requests{{handler="{handler}"}} {value}\n'
                for handler, value in values.items()
            ).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = HostPort("127.0.0.1", server.server_port)
    yield RegistryConfig(Path("c"), "filesystem", None, debug=address, listen=address), shown
    server.shutdown()
    server.server_close()


def test_each_handler_that_writes_has_to_be_seen_idle_once(metrics: Metrics) -> None:
    config, shown = metrics
    idle = {"manifest": 0, "blob_upload": 0, "blob_upload_chunk": 0, "blob": 7}
    shown += [idle | {"blob_upload_chunk": 1}, idle | {"blob_upload_chunk": 1, "manifest": 3}]
    shown += [idle | {"manifest": 2}, idle | {"manifest": 9}]
    waits: list[str] = []
    with Drain(
        DrainTimeouts(limit=100, hold=100),
        take_lock=contextlib.nullcontext,  # type: ignore[arg-type]
        token_life=lambda: 0.0 if waits else 1.0,
        busy=lambda: writing_handlers(config),
        uploads=lambda: "",
        end_requests=lambda under_way: None,
        sleep=lambda seconds, fraction, detail: waits.append(detail),
        clock=lambda: 0.0 if not waits else 2.0,
    ).writes_ended():
        pass
    assert waits[-1] == "waits for the end of uploads under way"
    assert len(waits) == 3


def test_a_registry_that_shows_no_metrics_is_an_error(metrics: Metrics) -> None:
    config, shown = metrics
    shown.append({})
    with pytest.raises(Unavailable, match="shows no requests in flight"):
        writing_handlers(config)


def test_a_registry_that_does_not_run_writes_nothing() -> None:
    config = RegistryConfig(Path("c"), "filesystem", None, debug=NOWHERE, listen=NOWHERE)
    assert writing_handlers(config) == set()


@pytest.mark.parametrize("address", [None, "of a listener"])
def test_a_registry_that_runs_or_may_run_has_to_show_its_metrics(address: str | None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listen = HostPort(*listener.getsockname()) if address else None
        for debug, reason in (
            (None, "has no http.debug.prometheus"),
            (NOWHERE, "doesn't answer at its debug"),
        ):
            config = RegistryConfig(Path("c"), "filesystem", None, debug=debug, listen=listen)
            with pytest.raises(Unavailable, match=reason):
                writing_handlers(config)
