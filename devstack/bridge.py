"""Machines on one network: each has a network and mount namespace of its own, and so its own /etc.

The bridge stands in the network namespace of whoever makes it. A machine runs no program of its own: programs
are started in it with the words of ``Machine.prefix``, and see its addresses, its /etc/hosts and its /etc.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from devstack import namespace

#: the network of the bridge and of its machines (TEST-NET-2, RFC 5737)
PREFIX_LENGTH = 24
BRIDGE = "sysreg-bridge"


def make(*addresses: str) -> None:
    """Make the bridge in this thread's network namespace, with these addresses."""
    _ip("link", "add", BRIDGE, "type", "bridge")
    for address in addresses:
        _ip("address", "add", f"{address}/{PREFIX_LENGTH}", "dev", BRIDGE)
    _ip("link", "set", BRIDGE, "up")


def attach(pid: int, port: str, address: str) -> None:
    """Connect the network namespace of a process with the bridge. There, the interface is eth0.

    ``port`` is the name of the bridge's end, 15 characters at most.
    """
    _ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    _ip("link", "set", port, "master", BRIDGE, "up")
    inside = ["nsenter", f"--target={pid}", "--net", "--"]
    _run([*inside, "ip", "address", "replace", f"{address}/{PREFIX_LENGTH}", "dev", "eth0"])
    _run([*inside, "ip", "link", "set", "eth0", "up"])


class Machine:
    """A machine on the bridge, until ``close``. Its own layer of /etc is below ``root``, in memory."""

    def __init__(self, root: Path, port: str, address: str, names: Mapping[str, str]) -> None:
        """``names`` are the lines of /etc/hosts: name -> address."""
        self.port = port
        self._process = namespace.hold(root, {"localhost": "127.0.0.1", **names})
        try:
            attach(self.pid, port, address)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def prefix(self) -> list[str]:
        """Words to put before a command line to run it on this machine."""
        return namespace.enter(self.pid)

    def path(self, inside: str) -> Path:
        """The path by which this process reaches a path of the machine."""
        return Path(f"/proc/{self.pid}/root{inside}")

    @contextmanager
    def without_network(self) -> Iterator[None]:
        """Pull its cable."""
        _ip("link", "set", self.port, "down")
        try:
            yield
        finally:
            _ip("link", "set", self.port, "up")

    @contextmanager
    def without(self, port: int) -> Iterator[None]:
        """Drop every packet to and from this TCP port of others."""
        rules = (
            f"table inet cut {{ chain out {{ type filter hook output priority 0; tcp dport {port} drop; }}; "
            f"chain in {{ type filter hook input priority 0; tcp sport {port} drop; }}; }}"
        )
        _run([*self.prefix, "nft", rules])
        try:
            yield
        finally:
            _run([*self.prefix, "nft", "delete table inet cut"])

    def close(self) -> None:
        """End it. The interface goes with it; end its programs before."""
        self._process.kill()
        self._process.wait()


def _ip(*words: str) -> None:
    _run(["ip", *words])


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
