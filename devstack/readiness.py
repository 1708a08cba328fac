"""Whether the programs of an embedded controller answer, and whether what answers is theirs."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from devstack import ports, programs
from devstack.endpoints import Endpoints
from devstack.errors import DevstackError
from devstack.paths import Paths
from devstack.supervisor import Supervisor


def check_free(wanted: Mapping[str, int]) -> None:
    """Raise DevstackError if a process listens on one of the ports, by name, that the programs will need."""
    holders = ports.listeners(wanted.values())
    for name, port in wanted.items():
        if port in holders:
            raise DevstackError(f"port {port} ({name}) is taken by {_names(holders[port])}: stop that first")


class _Question(NamedTuple):
    """The name of a program's port, the status of its answer, and the words of curl that ask."""

    port: str
    status: int
    words: tuple[str, ...]


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
        if program == programs.AGENT:
            return self._status("--unix-socket", str(self.paths.agent_socket), "http://agent/health") == 200
        question = self._question(program)
        port = self.endpoints.ports[question.port]
        if not self.prefix:  # in a namespace only this controller listens
            if not _accepts(port):
                return False
            self._check_holder(program, port)
        return self._status(*question.words) == question.status

    def _question(self, program: str) -> _Question:
        trust = ("--cacert", str(self.paths.ca_file))
        match program:
            case programs.REGISTRY:
                return _Question("registry", 401, (*trust, f"{self.endpoints.url}/v2/"))
            case programs.TOKEN_SERVER:
                url = self.endpoints.token_url.replace("/token/", "/health")
                return _Question("token_server", 200, (*trust, url))
            case programs.KEYSTONE:
                return _Question("keystone", 200, (self.endpoints.auth_url,))
            case _:
                from sysreg_cli.cluster.membership import CredentialFiles

                tls = CredentialFiles(self.paths.cluster).tls
                pair = ("--cert", str(tls.certificate), "--key", str(tls.key))
                url = f"https://{self.endpoints.etcd}/health"
                return _Question("etcd", 200, ("--cacert", str(tls.ca), *pair, url))

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
