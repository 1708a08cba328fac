"""Where the programs of an embedded controller listen, and the URLs that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from devstack.keystone_server import auth_url

HOST_NAME = "registry.local"
# The address of a controller in a network namespace (TEST-NET-2, RFC 5737).
NAMESPACE_ADDRESS = "198.51.100.10"
USUAL_PORTS = {
    "keystone": 5000,
    "registry": 9001,
    "token_server": 9002,
    "agent": 9003,
    "debug": 5001,
    "metrics": 5002,
}
# etcd takes the next port, too: for other servers of etcd, which it does not have here
ETCD_PORT = 2479


@dataclass(frozen=True)
class Endpoints:
    """The address on which the programs listen, and their ports by name: those of ``USUAL_PORTS``."""

    listen: str
    ports: Mapping[str, int]

    @property
    def address(self) -> str:
        """registry.local:<port>, as in image references."""
        return f"{HOST_NAME}:{self.ports['registry']}"

    @property
    def url(self) -> str:
        """The registry's URL."""
        return f"https://{self.address}"

    @property
    def token_url(self) -> str:
        """Where clients get tokens."""
        return f"https://{HOST_NAME}:{self.ports['token_server']}/token/"

    @property
    def etcd(self) -> str:
        """Where etcd listens: host and port."""
        return f"{self.listen}:{self.ports['etcd']}"

    @property
    def auth_url(self) -> str:
        """Keystone's URL, OS_AUTH_URL."""
        return auth_url(self.ports["keystone"])
