"""A network between booted machines: a bridge in a network namespace of its own, with a cable to each."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
from collections.abc import Iterator

from devstack import bridge
from devstack.namespace import entered_network
from tests.controller.machine import ADDRESS, Machine


class Bridge:
    """Make it with ``running``. It ends with the test run, also if that is killed."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            [
                "setpriv",
                "--pdeathsig",
                "KILL",
                "--",
                "unshare",
                "--net",
                "sh",
                "-c",
                "echo; exec sleep infinity",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        self._holder.stdout.readline()
        with entered_network(self._holder.pid):
            bridge.make()
        self._ports: dict[Machine, str] = {}

    @classmethod
    @contextlib.contextmanager
    def running(cls) -> Iterator[Bridge]:
        made = cls()
        try:
            yield made
        finally:
            made._holder.kill()
            made._holder.communicate()

    def plug(self, machine: Machine, address: str) -> None:
        """Lay a cable to a booted machine, which gets ``address``. A power-off of the machine removes it."""
        if address != ADDRESS:  # each machine begins with that
            with entered_network(machine.init):
                subprocess.run(["ip", "address", "del", f"{ADDRESS}/32", "dev", "lo"], check=True)
        port = self._ports[machine] = f"p{secrets.token_hex(4)}"
        with entered_network(self._holder.pid):
            bridge.attach(machine.init, port, address)

    @contextlib.contextmanager
    def without(self, machine: Machine) -> Iterator[None]:
        """Let no packet of the machine through. Nobody is told."""
        self._set(machine, "down")
        try:
            yield
        finally:
            self._set(machine, "up")

    def _set(self, machine: Machine, state: str) -> None:
        with entered_network(self._holder.pid):
            subprocess.run(["ip", "link", "set", self._ports[machine], state], check=True)
