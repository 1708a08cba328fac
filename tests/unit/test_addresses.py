"""host:port values."""

import pytest

from sysreg_cli.addresses import HostPort, network_of


@pytest.mark.parametrize("text", ["registry.local:9001", "127.0.0.1:9003", "[::1]:9003", "[::]:1"])
def test_it_is_written_as_it_was_read(text: str) -> None:
    assert str(HostPort.parse(text)) == text


@pytest.mark.parametrize("text", ["", "9003", ":9003", "host:", "host:0", "host:65536", "host:x", "host: 1"])
def test_what_is_not_host_and_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        HostPort.parse(text)


@pytest.mark.parametrize(
    ("listener", "reached"),
    [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("r.local:1", "r.local:1")],
)
def test_a_wildcard_is_reached_by_loopback(listener: str, reached: str) -> None:
    assert str(HostPort.parse(listener).reachable) == reached


def test_listeners_clash_at_one_port_unless_both_name_different_addresses() -> None:
    assert HostPort("127.0.0.1", 1).overlaps(HostPort("0.0.0.0", 1))
    assert HostPort("", 1).overlaps(HostPort("127.0.0.1", 1))
    assert HostPort("a.local", 1).overlaps(HostPort("127.0.0.1", 1))
    assert not HostPort("127.0.0.1", 1).overlaps(HostPort("127.0.0.2", 1))
    assert not HostPort("127.0.0.1", 1).overlaps(HostPort("127.0.0.1", 2))


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("somewhere", "somewhere"),
    ],
)
def test_clients_that_count_as_one(address: str, network: str) -> None:
    assert network_of(address) == network
