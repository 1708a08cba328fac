"""A controller, a store in memory, and workers whose reconciler is the real one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from sysreg_cli.agent.certificate.transaction import CertificateChange
from sysreg_cli.agent.hosts.authorities import AuthorityRollout
from sysreg_cli.agent.hosts.fleet import Fleet
from sysreg_cli.agent.hosts.rollout import Pace, Rollout
from sysreg_cli.cluster.decision import Failure, Report, Sight
from sysreg_cli.cluster.joining import host_rights, host_user
from sysreg_cli.cluster.judgement import State
from sysreg_cli.cluster.keys import AUTHORITIES, CERTIFICATE, Part, host_key
from sysreg_cli.cluster.port import Delete, Expected, Put, User
from sysreg_cli.cluster.problems import Problem
from sysreg_cli.cluster.records import (
    Alive,
    DesiredAuthorities,
    DesiredCertificate,
    HostSpec,
    Outcome,
    Role,
    decode,
    encode,
)
from sysreg_cli.errors import SysregError
from sysreg_cli.host.anchors import managed_anchors
from sysreg_cli.host.system_bundle import SystemBundle
from sysreg_cli.pki.check import ServerChain, check_server, read_certificates
from sysreg_cli.settings import PathSettings, Settings
from sysreg_cli.worker.acting import Acting, fingerprint
from sysreg_cli.worker.authorities import AuthorityReconciler
from sysreg_cli.worker.reconciler import Reconciler
from sysreg_cli.worker.reporter import Reporter
from tests import certificates as make
from tests.memory_store import MemoryCluster, MemoryStore
from tests.unit.agent.certificate.host import Host

PACE = Pace(trust=2.0, overlap=0.0, poll=0.005, compare=0.02, retry=0.02)


class SimulatedWorker:
    """A worker that looks at itself when the world tells it to."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.world = world
        root = world.root / name
        paths = PathSettings(
            state=root / "state",
            docker_trust=root / "docker",
            containerd_trust=root / "containerd",
            system_trust=root / "system",
            system_trust_command="true",
        )
        self.settings = Settings(paths=paths)
        paths.state.mkdir(parents=True)
        self.up = True
        self.disk_full = False
        #: whether it is of a version that knows nothing of CA certificates
        self.is_old = False
        user = User(host_user(name), "secret")
        root_store = world.cluster.administrator()
        root_store.put_user(user, host_rights(name))
        root_store.transact(
            [], [Put(host_key(name, Part.SPEC), encode(HostSpec(Role.WORKER, "2026-11-27T00:00:00+00:00")))]
        )
        self._store = world.cluster.client(user)
        self._reconciler = Reconciler(self.settings, self._look)
        self._authorities = AuthorityReconciler(self.settings)
        self._reporter = Reporter(self._store, name, "boot")
        self.show_alive()

    def show_alive(self, *, up: bool = True) -> None:
        self.up = up
        key = host_key(self.name, Part.ALIVE)
        self._store.transact([], [Put(key, encode(Alive("boot"))) if up else Delete(key)])

    def look(self) -> None:
        """One round of the daemon."""
        if not self.up or self.disk_full:
            if self.disk_full:
                self._report_full()
            return
        desired = self.world.published()
        if report := self._reconciler.run(desired):
            self._reporter.tell(report)
        if not self.is_old and (done := self._authorities.run(self.world.published_authorities())):
            self._reporter.tell_authorities(done)

    def system(self) -> set[str]:
        """The fingerprints of the CA certificates that sysreg-host has added to the system."""
        return set(map(fingerprint, SystemBundle(self.settings.paths).installed()))

    def trusted(self) -> set[str]:
        """The fingerprints that docker trusts."""
        directory = self.settings.paths.docker_trust / "registry.local:9001"
        return {
            fingerprint(one)
            for path in managed_anchors(directory)
            for one in read_certificates(path.read_bytes())
        }

    def _look(self, acting: Acting) -> Sight:
        chain = self.world.presented()
        if fingerprint(chain[-1]) not in map(fingerprint, acting.kept):
            return Sight(failure=Failure(Problem.NOT_TRUSTED, "unknown issuer"))
        return Sight(fingerprint(chain[0]), fingerprint(chain[0]))

    def _report_full(self) -> None:
        if desired := self.world.published():
            failure = Failure(Problem.DISK_FULL, "/etc/docker: No space left on device")
            self._reporter.tell(Report(desired, Outcome.FAILED, failure))


class World:
    """As a context: the workers look at themselves all the time, in a thread."""

    def __init__(self, root: Path, workers: Sequence[str] = ("w1", "w2"), pace: Pace = PACE) -> None:
        self.root = root
        self.pace = pace
        root.mkdir(exist_ok=True)
        self.host = Host(root / "controller")
        self.cluster = MemoryCluster()
        self.store: MemoryStore = self.cluster.administrator()
        self.lost: list[str] = []
        #: when a worker first trusted an anchor, and when it was first presented (for the worker "")
        self.seen: dict[tuple[str, str], float] = {}
        self.workers = {name: SimulatedWorker(self, name) for name in workers}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.agent: tuple[AuthorityRollout, Rollout, Fleet] | None = None
        self._runs = False

    def __enter__(self) -> World:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stopping.set()
        self._thread.join()
        self.stop_agent()

    def _run(self) -> None:
        while not self._stopping.wait(0.002):
            for worker in self.workers.values():
                try:
                    worker.look()
                except SysregError:
                    continue
                for anchor in worker.trusted():
                    self.seen.setdefault((worker.name, anchor), time.monotonic())
                self.seen.setdefault(("", self.anchor()), time.monotonic())
                # what every pull on this host needs, at each moment
                if worker.up and worker.trusted() and self.anchor() not in worker.trusted():
                    self.lost.append(worker.name)

    def start_agent(self, store: MemoryStore | None = None, *, run: bool = True) -> CertificateChange:
        """Start an agent: it recovers, and publishes what is in use if it is to ``run``."""
        CertificateChange(self.host.settings, probe=self.host.services).recover()
        store = store or self.store
        fleet = Fleet(store)
        rollout = Rollout(self.host.settings, store, fleet, pace=self.pace)
        self.agent = (AuthorityRollout(self.host.settings, store, fleet, pace=self.pace), rollout, fleet)
        self._runs = run
        for part in self.agent if run else ():
            part.start()
        return CertificateChange(self.host.settings, probe=self.host.services, hosts=rollout)

    def stop_agent(self) -> None:
        if self.agent is not None:
            for part in self.agent if self._runs else ():
                part.stop()
            self.agent = None

    @property
    def rollout(self) -> Rollout:
        assert self.agent is not None
        return self.agent[1]

    @property
    def authorities(self) -> AuthorityRollout:
        assert self.agent is not None
        return self.agent[0]

    @property
    def fleet(self) -> Fleet:
        assert self.agent is not None
        return self.agent[2]

    def states(self) -> set[State]:
        """The states of the hosts, as the list shows them."""
        return {one.state for one in self.rollout.outcome(0).judgements}

    def published(self) -> DesiredCertificate | None:
        entry = self.cluster.administrator().get(CERTIFICATE)
        return decode(DesiredCertificate, entry.value, entry.key) if entry else None

    def published_authorities(self) -> DesiredAuthorities | None:
        entry = self.cluster.administrator().get(AUTHORITIES)
        return decode(DesiredAuthorities, entry.value, entry.key) if entry else None

    def presented(self) -> tuple[x509.Certificate, ...]:
        return self.host.generations.certificates(self.host.services.live)

    def anchor(self) -> str:
        return fingerprint(self.presented()[-1])

    def is_settled(self) -> bool:
        """Whether each worker that is up trusts exactly what the services present."""
        return all(worker.trusted() == {self.anchor()} for worker in self.workers.values() if worker.up)


def chain(name: str) -> ServerChain:
    """A certificate of a CA of its own, checked."""
    root = make.authority(name)
    leaf = make.server(root)
    return check_server(
        make.bundle(leaf, root, key=leaf.key_pem),
        passphrase=None,
        host_names=["registry.local"],
        now=datetime.now(UTC),
    )


class Killed(BaseException):
    """The agent is dead."""


class DyingStore(MemoryStore):
    """A store whose client dies at one of its transactions: before it, or after it was done."""

    def __init__(self, cluster: MemoryCluster, count: Callable[[], bool]) -> None:
        super().__init__(cluster, None)
        self._dies_here = count

    def transact(self, expected: Sequence[Expected], writes: Sequence[Put | Delete]) -> int:
        if self._dies_here():
            raise Killed
        revision = super().transact(expected, writes)
        if self._dies_here():
            raise Killed
        return revision
