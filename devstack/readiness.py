"""Whether the programs of an embedded controller answer, and whether what answers is theirs."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from devstack import ports
from devstack.endpoints import Endpoints
from devstack.errors import DevstackError
from devstack.paths import Paths
from devstack.programs import AGENT, KEYSTONE, REGISTRY, TOKEN_SERVER
from devstack.supervisor import Supervisor


def check_free(wanted: Mapping[str, int]) -> None:
    """Raise DevstackError if a process listens on one of the ports, by name, that the programs will need."""
    holders = ports.listeners(wanted.values())
    for name, port in wanted.items():
        if port in holders:
            raise DevstackError(f"port {port} ({name}) is taken by {_names(holders[port])}: stop that first")


@dataclass(frozen=True)
class Probe:
    """Asks the programs of one controller.

    ``prefix`` is what precedes a command line to run it in the controller's namespace.
    """

    paths: Paths
    endpoints: Endpoints
    supervisor: Supervisor
    prefix: Sequence[str]

    def answers(self, program: str) -> bool:
        """Whether ``program`` answers. Raises DevstackError if it ended, or if another one has its port."""
        if self.supervisor.call("getProcessInfo", program)["statename"] == "FATAL":
            raise DevstackError(f"{program} ends at once")
        if program == AGENT:
            return self._status("--unix-socket", str(self.paths.agent_socket), "http://agent/health") == 200
        name, url, expected = {
            REGISTRY: ("registry", f"{self.endpoints.url}/v2/", 401),
            TOKEN_SERVER: ("token_server", self.endpoints.token_url.replace("/token/", "/health"), 200),
            KEYSTONE: ("keystone", self.endpoints.auth_url, 200),
        }[program]
        port = self.endpoints.ports[name]
        if not self.prefix:  # in a namespace only this controller listens
            if not _accepts(port):
                return False
            self._check_holder(program, port)
        return self._status("--cacert", str(self.paths.ca_file), url) == expected

    def _check_holder(self, program: str, port: int) -> None:
        holders = ports.listeners([port]).get(port, set())
        if strangers := holders - self.supervisor.processes():
            raise DevstackError(f"port {port} ({program}) is taken by {_names(strangers)}")

    def _status(self, *args: str) -> int:
        """The status of a response to curl, 0 without a response."""
        curl = ["curl", "--noproxy", "*", "--silent", "--max-time", "10", "--output", "/dev/null"]
        done = subprocess.run(
            [*self.prefix, *curl, "--write-out", "%{http_code}", *args],
            capture_output=True,
            text=True,
            timeout=20,
            env={"PATH": os.environ["PATH"]},
        )
        return int(done.stdout or 0)


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _names(pids: set[int]) -> str:
    return ", ".join(ports.describe(pid) for pid in sorted(pids))
