"""The short form of `make soak`: attacks from one address, and what others notice of them."""

import socket
import ssl

import pytest

from devstack.controller import Controller
from tests.soak import attacks


@pytest.mark.soak
@pytest.mark.parametrize("attack", ["wrong pairs", "silent connections", "refusals"])
def test_an_attack_from_one_address_stops_no_login_from_another_and_no_call_of_root(
    controller: Controller, attack: str
) -> None:
    report = attacks.run(controller, attack, 2, attacks.Users(controller, 3))
    assert report.wrong == []
    assert report.logins
    assert report.calls
    # three of the attacker's connections write more than this in a second
    assert report.log_lines < 100


def test_the_registry_takes_no_http2_whose_rapid_resets_cost_it_a_processor(controller: Controller) -> None:
    context = ssl.create_default_context(cafile=controller.paths.ca_file)
    context.set_alpn_protocols(["h2", "http/1.1"])
    host, port = controller.address.split(":")
    with (
        socket.create_connection((host, int(port)), 30) as connection,
        context.wrap_socket(connection, server_hostname=host) as tls,
    ):
        assert tls.selected_alpn_protocol() != "h2"
        # the first bytes of a client that speaks it anyhow (RFC 9113, section 3.4), and SETTINGS
        tls.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        assert tls.recv(64).startswith(b"HTTP/1.1 ")
