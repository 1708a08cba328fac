"""A change of the certificate in which the agent, the daemon of a worker, or etcd is killed at a given step.

What was killed is started again at once, as systemd does. Then each host has to trust what the registry
serves, and the list of the hosts has to say so.
"""

from __future__ import annotations

import contextlib
import signal
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from devstack.waiting import NotInTime, wait_until
from sysreg_cli.cluster.membership import access
from sysreg_cli.host import failpoint
from tests import certificates as make
from tests.deployed_etcd import DeployedEtcd, deployed_etcd
from tests.functional.certificate.breakable import HOST, BreakableController, Bundle
from tests.functional.worker.processes import WorkerProcess
from tests.functional.worker.site import Site
from tests.tls_clients import presented_chain

_WORKER = "w1"
_SECONDS = 60.0


@dataclass(frozen=True)
class Kill:
    """Who is killed, and where. ``step`` is the name of a failpoint, ``number`` counts from 1."""

    who: str
    number: int
    step: str

    def __str__(self) -> str:
        return f"{self.who} killed before {self.number}: {self.step}"


class KillableSite:
    """A controller, its etcd and a worker. Make it with ``running``."""

    def __init__(self, breakable: BreakableController, etcd: DeployedEtcd, root: Path) -> None:
        self.breakable = breakable
        self.etcd = etcd
        self.site = Site(breakable.controller, access(etcd.settings), root)
        breakable.start_agent()
        # with a first certificate of a CA
        self.live = self._new()
        assert breakable.install(self.live) == ""
        self.worker: WorkerProcess = self.site.join(_WORKER)
        self.worker.start()
        self.site.wait_for(_WORKER, "live")
        self._trace = root / "trace"
        #: the kill that has not happened yet
        self._kill: Kill | None = None

    @classmethod
    @contextmanager
    def running(cls, root: Path) -> Iterator[KillableSite]:
        with deployed_etcd("trixie") as etcd, BreakableController.temporary() as breakable:
            settings = breakable.controller.paths.settings
            cluster = f"endpoints = {etcd.settings.listen}\ndirectory = {etcd.settings.directory}\n"
            settings.write_text(f"{settings.read_text()}\n[cluster]\nhost = controller-0\n{cluster}")
            made = cls(breakable, etcd, root)
            try:
                yield made
            finally:
                made.worker.kill()

    def _new(self) -> Bundle:
        """A certificate of another CA."""
        root = make.authority(f"CA {time.monotonic()}")
        leaf = make.server(root)
        return Bundle(make.bundle(leaf, root), leaf, (leaf, root))

    def kills(self) -> list[Kill]:
        """Every step of an undisturbed change: of the agent, of the worker, and of the agent for etcd."""
        self._start_worker(f"trace:{self._trace}-host")
        self.breakable.set_agent_fault(f"trace:{self._trace}-agent")
        assert self.change(None) == ([], "installed")
        self._start_worker("")
        agent, host = (Path(f"{self._trace}-{who}").read_text().splitlines() for who in ("agent", "host"))
        return [
            *(Kill("agent", number, step) for number, step in enumerate(agent, 1)),
            *(Kill("host", number, step) for number, step in enumerate(host, 1)),
            # once for each name: the agent stops at each step of that name
            *(Kill("etcd", agent.index(step) + 1, step) for step in dict.fromkeys(agent)),
        ]

    def change(self, kill: Kill | None) -> tuple[list[str], str]:
        """Install a certificate of another CA. Return what is not true afterwards, and the outcome."""
        old, new = self.live, self._new()
        if kill is not None:
            self._prepare(kill)
        errors: list[str] = []
        install = threading.Thread(target=lambda: errors.append(self.breakable.install(new)))
        install.start()
        while install.is_alive():
            self._start_what_ended()
            time.sleep(0.02)
        violations = []
        try:
            wait_until(self._start_what_ended, 20)
        except NotInTime:
            violations.append("nobody was killed")
        self._kill = None
        self.breakable.set_agent_fault("")
        violations += self._violations(old, new)
        self.live = new if self._presents(new) else old
        outcome = "installed" if errors == [""] else "no answer" if errors == ["no answer"] else "refused"
        if outcome == "installed" and self.live is old:
            violations.append("was reported as installed, but is not")
        return violations, outcome

    def _prepare(self, kill: Kill) -> None:
        if kill.who == "agent":
            self.breakable.set_agent_fault(f"{kill.number}:kill")
        elif kill.who == "host":
            self._start_worker(f"{kill.number}:kill")
        else:
            self.breakable.set_agent_fault(f"{kill.step}:stop")
        self._kill = kill

    def _start_worker(self, fault: str) -> None:
        self.worker.kill()
        self.worker.start(**{failpoint.VARIABLE: fault})
        self.site.wait_for(_WORKER, "live")

    def _start_what_ended(self) -> bool:
        """Do what systemd does. Return whether the kill has happened, if there is one.

        Called by the thread that started the processes: they end with it.
        """
        if self.breakable.agent_ended():
            self._kill = None
            self.breakable.start_agent()
        if self.worker.process.status() == psutil.STATUS_ZOMBIE:
            self._kill = None
            self.worker.kill()
            self.worker.start()
        if self.breakable.agent_stopped():
            if self._kill is not None:
                self._kill = None
                self.etcd.stop()
                self.breakable.signal_agent(signal.SIGCONT)
                self.etcd.start()
            self.breakable.signal_agent(signal.SIGCONT)
        return self._kill is None

    def _presents(self, bundle: Bundle) -> bool:
        return presented_chain(self.breakable.ports[0], HOST) == bundle.der

    def _violations(self, *allowed: Bundle) -> list[str]:
        """What contradicts that the worker trusts what the registry serves, and that the list says so."""
        with contextlib.suppress(NotInTime):
            wait_until(lambda: not self._untrue(), _SECONDS, pause=0.2)
        return [*self._untrue(), *self.breakable.violations(*allowed)]

    def _untrue(self) -> list[str]:
        found = []
        chain = presented_chain(self.breakable.ports[0], HOST)
        address = f"{HOST}:{self.breakable.ports[0]}"
        for root in (self.worker.docker, self.worker.containerd):
            held = make.pems_in((root / address).glob("*.crt"))
            if [ssl.PEM_cert_to_DER_cert(pem.decode()) for pem in held] != chain[-1:]:
                found.append(f"{root.name} of the worker trusts {len(held)} CAs, or another one")
        served = self.site.json("certificate-show", "docker_registry")["signature"]
        for row in self.site.json("registry-host-list"):
            if (row["state"], row["certificate"]) != ("live", served):
                found.append(f"the list says {row['host']} is {row['state']} with {row['certificate']}")
        return found
