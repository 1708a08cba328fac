"""Host names against SANs (RFC 6125) and name constraints (RFC 5280 4.2.1.10).

Where Go, OpenSSL and the RFCs differ, a name counts only if all of them accept it. The registry's clients use
Go (docker, containerd, skopeo) or OpenSSL (curl, the system command).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def as_address(host: str) -> Address | None:
    """Return ``host`` as an address, or None if it is a name. An address needs an IP address SAN."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def covers(host: str, dns_names: Iterable[str], addresses: Collection[Address]) -> bool:
    """Whether a certificate with these SANs is valid for ``host``."""
    address = as_address(host)
    if address is not None:
        return address in addresses
    return any(_matches(host.lower(), pattern.lower()) for pattern in dns_names)


def _matches(host: str, pattern: str) -> bool:
    if not pattern.startswith("*."):
        return host == pattern
    # A star stands for exactly one whole label. In OpenSSL two labels have to follow it (*.local matches
    # nothing), and it matches no internationalised label.
    label, _, parent = host.partition(".")
    return parent == pattern[2:] and "." in parent and bool(label) and not label.startswith("xn--")


def dns_within(name: str, constraint: str) -> bool:
    """Whether a DNS name or wildcard pattern is in the subtree ``constraint``. An empty one holds all."""
    name, constraint = name.lower().removeprefix("*."), constraint.lower()
    if not constraint:
        return True
    if constraint.startswith("."):
        return name.endswith(constraint)
    return name == constraint or name.endswith("." + constraint)


def address_within(address: Address, network: Network) -> bool:
    return address.version == network.version and address in network
