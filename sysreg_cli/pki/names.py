"""Host names against SANs (RFC 6125) and name constraints (RFC 5280 4.2.1.10).

Where Go, OpenSSL and the RFCs differ, a name counts only if all of them accept it. The registry's clients use
Go (docker, containerd, skopeo) or OpenSSL (curl, the system command).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable

from cryptography import x509

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


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


def permits(constraints: x509.NameConstraints, name: str | Address) -> bool:
    """Whether ``constraints`` permit a DNS name, a wildcard pattern or an address.

    Permitted subtrees limit only names of their own kind.
    """
    permitted = _subtrees(constraints.permitted_subtrees, name)
    excluded = _subtrees(constraints.excluded_subtrees, name)
    return (not permitted or any(permitted)) and not any(excluded)


def _subtrees(subtrees: Iterable[x509.GeneralName] | None, name: str | Address) -> list[bool]:
    """Return for each subtree of the kind of ``name`` whether it contains ``name``."""
    if isinstance(name, str):
        return [_dns_within(name, tree.value) for tree in subtrees or () if isinstance(tree, x509.DNSName)]
    networks = [tree.value for tree in subtrees or () if isinstance(tree, x509.IPAddress)]
    return [
        name.version == network.version and name in network
        for network in networks
        if isinstance(network, ipaddress.IPv4Network | ipaddress.IPv6Network)
    ]


def _dns_within(name: str, constraint: str) -> bool:
    """Whether a DNS name or wildcard pattern is in the subtree ``constraint``. An empty one holds all."""
    name, constraint = name.lower(), constraint.lower()
    if not constraint:
        return True
    if constraint.startswith("."):  # a pattern has one label more than what follows its asterisk
        return name.endswith(constraint)
    name = name.removeprefix("*.")
    return name == constraint or name.endswith("." + constraint)
