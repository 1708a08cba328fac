"""What decides how the registry is restarted without turning a client away."""

from __future__ import annotations

import socket
from pathlib import Path

from sysreg_cli.deploy import restart

METRICS = """\
# TYPE registry_http_in_flight_requests gauge
registry_http_in_flight_requests{handler="blob"} 2
registry_http_in_flight_requests{handler="blob_upload_chunk"} 1
registry_http_requests_total{code="200",handler="blob",method="get"} 17
"""


def test_requests_in_flight_are_summed() -> None:
    assert restart.in_flight(METRICS) == 3
    assert restart.in_flight("") == 0


def test_a_listener_is_found_without_connecting_to_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert restart.listens(port)
        with socket.create_connection(("127.0.0.1", port)) as client:
            # an established connection is no listener
            assert not restart.is_listening(Path("/proc/net/tcp").read_text(), client.getsockname()[1])
    assert not restart.listens(port)


def test_only_first_packets_to_that_port_are_dropped_and_for_a_limited_time() -> None:
    rules = restart.hold_rules(9443, 14)
    assert "tcp flags & (fin | syn | rst | ack) == syn tcp dport @held drop" in rules
    assert "{ 9443 timeout 14s }" in rules
