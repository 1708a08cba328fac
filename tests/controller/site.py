"""A controller and workers on one network, as an operator sees them."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import certificates as make
from tests.controller import clients
from tests.controller.bridge import Bridge
from tests.controller.load import Load, load
from tests.controller.machine import ADDRESS, Machine
from tests.controller.machine_factory import DEPLOY, MachineFactory

#: what docker and containerd on a worker do all the time
PULLS = ("docker pull", "containerd pull")
_NETWORK = ADDRESS.rpartition(".")[0]


@dataclass
class Site:
    """``workers`` are booted, by their names, and on the bridge with the controller."""

    controller: Machine
    workers: Mapping[str, Machine]
    bridge: Bridge

    @classmethod
    @contextlib.contextmanager
    def running(cls, machines: MachineFactory, controller: Machine, workers: int) -> Iterator[Site]:
        """Connect a booted controller with so many workers. They have not joined yet."""
        with contextlib.ExitStack() as stack:
            bridge = stack.enter_context(Bridge.running())
            bridge.plug(controller, ADDRESS)
            made = {
                f"worker-{number}": stack.enter_context(machines.installed())
                for number in range(1, workers + 1)
            }
            site = cls(controller, made, bridge)
            for host in made:  # not in other threads: a machine ends with the thread that booted it
                site.boot(host)
            yield site

    def boot(self, host: str) -> None:
        """Boot a worker, and connect it with the network."""
        self.bridge.plug(self.workers[host].boot(), address_of(host))

    def join(self, host: str) -> str:
        """Add a worker, and join it. Returns what sysreg-deploy says there."""
        return self.workers[host].run(DEPLOY, "--join", self.join_file(host)).stdout

    def join_file(self, host: str) -> str:
        """Add a worker. Returns the path on the worker of its join file."""
        path = f"/root/{host}.json"
        self.controller.run("system", "registry-host-add", host, "--file", path)
        copy(self.controller, path, self.workers[host], "join.json")
        self.controller.run("rm", path)
        return "/run/share/join.json"

    def states(self) -> dict[str, str]:
        """The state of each host, as the list shows it."""
        rows = self.controller.json("system", "registry-host-list", "-f", "json")
        return {row["host"]: row["state"] for row in rows}

    def wait_for(self, state: str, hosts: Collection[str] = (), *, seconds: float = 40) -> None:
        """Wait until these workers, or all, have this state."""
        wanted = hosts or self.workers.keys()
        reached = lambda: all(self.states().get(host) == state for host in wanted)  # noqa: E731
        self.controller.wait_until(reached, f"{', '.join(wanted)}: {state}", seconds)

    def install(self, name: str, *options: str) -> Any:
        """Install a certificate of a CA of its own, and return what the command prints as JSON."""
        return self.controller.json(
            *("system", "certificate-install", "-m", "docker_registry", "-f", "json", *options),
            self.certificate(name),
        )

    def certificate(self, name: str) -> str:
        """Make a certificate of a CA of its own. Returns the path of the file on the controller."""
        root = make.authority(name)
        leaf = make.server(root, names=["registry.local", ADDRESS])
        path = self.controller.share / f"{name}.pem"
        path.write_bytes(make.bundle(leaf, root))
        return f"/run/share/{path.name}"

    def start_clients(self) -> None:
        """Start docker and containerd on each worker, and log in. Needs the trust in the registry."""
        at_once(self._start_clients, self.workers)

    def _start_clients(self, host: str) -> None:
        clients.start_runtimes(self.workers[host])
        clients.login(self.workers[host], "testuser")

    @contextlib.contextmanager
    def pulling(self) -> Iterator[Sequence[Load]]:
        """Let docker and containerd on each worker pull all the time. Raises AssertionError if one fails."""
        with contextlib.ExitStack() as stack:
            loads = [stack.enter_context(load(worker, PULLS)) for worker in self.workers.values()]
            yield loads
            for one in loads:
                one.another_round()
        failures = [failure for one in loads for failure in one.failures()]
        assert not failures, "\n".join(failures)

    def trusted(self, host: str) -> Sequence[Sequence[bytes]]:
        """The certificates that docker, and containerd, on a worker trust."""
        return [
            make.pems_in(self.workers[host].file(place).glob("*.crt"))
            for place in (f"/etc/{one}/certs.d/{clients.REGISTRY}" for one in ("docker", "containerd"))
        ]


def address_of(host: str) -> str:
    """The address of a worker, as worker-2."""
    return f"{_NETWORK}.{10 + 10 * int(host.rpartition('-')[2])}"


def at_once(do: Any, hosts: Collection[str]) -> list[Any]:
    """Call ``do`` with each host, side by side."""
    with ThreadPoolExecutor(len(hosts)) as threads:
        return list(threads.map(do, hosts))


def copy(source: Machine, path: str, target: Machine, name: str) -> Path:
    """Copy a file of one machine into the share of another, for root alone."""
    copied = target.share / name
    copied.write_bytes(source.file(path).read_bytes())
    copied.chmod(0o600)
    return copied
