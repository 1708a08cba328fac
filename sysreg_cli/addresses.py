"""``HostPort``: where something listens. The one home of reading and writing ``host:port``.

Also ``network_of``: which clients count as one, and ``auth_url_problem``: what is wrong with Keystone's URL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

_LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


@dataclass(frozen=True, slots=True)
class HostPort:
    """A host name or address, without brackets, and a port. An empty host means every address."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> HostPort:
        """Read ``host:port`` or ``[IPv6]:port``. Raises ValueError that says what is wrong."""
        host, colon, port = text.rpartition(":")
        if not colon or not host:
            raise ValueError(f"{text!r} is not host:port")
        return cls(host.removeprefix("[").removesuffix("]"), parse_port(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def reachable(self) -> HostPort:
        """Where a client on this host connects to: a wildcard address becomes the loopback address."""
        return HostPort(_LOOPBACK.get(self.host, self.host), self.port)

    def overlaps(self, other: HostPort) -> bool:
        """Whether listeners at both may clash. A host name may stand for any address."""
        if self.port != other.port:
            return False
        try:
            mine, theirs = ip_address(self.host), ip_address(other.host)
        except ValueError:
            return True
        return mine == theirs or mine.is_unspecified or theirs.is_unspecified


@lru_cache(maxsize=4096)
def network_of(address: str) -> str:
    """Return what a limit for each client counts by: the IPv4 address, or the /64 network of IPv6.

    One IPv6 client has all addresses of its /64. An IPv4 address that a listener for both shows as IPv6
    (``::ffff:192.0.2.1``) is that IPv4 address. What is no address stays as it is.
    """
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"


def auth_url_problem(url: str) -> str:
    """Say what is wrong with Keystone's URL, which may end in ``/v3`` or not. Empty if nothing is."""
    try:
        parts = urlsplit(url)
        well_formed = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        well_formed = False
    if any(character.isspace() or not character.isprintable() for character in url):
        return "has a blank, a line end or a control character"
    if not well_formed:
        return "is not an http:// or https:// URL"
    if url.rstrip("/").endswith("/v2.0"):
        return "is the URL of Keystone's API v2.0; sysreg needs v3"
    return ""


def parse_port(text: str) -> int:
    """Read a port. Raises ValueError unless it is a whole number from 1 to 65535."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise ValueError(f"{text!r} is not a port between 1 and 65535")
    return int(text)
