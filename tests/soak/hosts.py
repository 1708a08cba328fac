"""Changes the CA of the registry again and again, while hosts and servers of etcd fail. Takes 20 minutes.

    sudo .venv/bin/python -m tests.soak.hosts [--seconds N] [--seed N]

Six hosts, each a real sysreg-host, follow three real servers of etcd. Every few seconds a host is killed or
frozen, or a server is killed, frozen or cut off, or etcd forgets its revisions. On each host, pulls go on all
the time: connections to the registry that are verified with what docker trusts on that host. One may fail for
its trust only on a host whose daemon was down or frozen then, or had not caught up since. In the end every
host is live.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import random
import signal
import ssl
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from sysreg_cli.agent.hosts.fleet import Fleet as AgentFleet
from sysreg_cli.agent.hosts.rollout import Rollout
from sysreg_cli.cluster.etcd import EtcdStore
from sysreg_cli.cluster.judgement import State
from sysreg_cli.errors import SysregError
from sysreg_cli.host.generations import Generations
from sysreg_cli.settings import CertificateSettings, PathSettings, RegistrySettings, Settings
from tests import certificates as make
from tests.etcd_cluster import EtcdCluster
from tests.functional.worker.processes import Fleet, WorkerProcess
from tests.functional.worker.registry import NAME, Registry

_HOSTS = 6
_CHANGE_SECONDS = 15.0


class Site:
    """The controller's side: it serves a certificate, and publishes it as the agent does."""

    def __init__(self, root: Path, registry: Registry, etcd: EtcdCluster) -> None:
        (root / "state").mkdir(parents=True)
        (root / "tls").mkdir()
        settings = Settings(
            registry=RegistrySettings(host_names=(NAME,), port=registry.port),
            certificate=CertificateSettings(root / "tls"),
            paths=PathSettings(state=root / "state"),
        )
        self.registry = registry
        self.generations = Generations(root / "tls")
        store = EtcdStore(etcd.access())
        self.rollout = Rollout(settings, store, AgentFleet(store))
        self.counts: Counter[str] = Counter()

    def change(self, number: int) -> None:
        """Install a certificate of another CA, as certificate-install does."""
        root = make.authority(f"CA {number}")
        leaf = make.server(root, names=[NAME])
        name = self.generations.next_name()
        self.generations.create(name, leaf.key_pem, leaf.pem + root.pem)
        try:
            if number > 1:
                self.rollout.trust([leaf.certificate, root.certificate], by="soak", require_all=False)
        except SysregError as error:
            self.counts["refused"] += 1
            print(f"  change {number} refused: {error}", flush=True)
        else:
            self.generations.use(name)
            self.registry.present(leaf, root)
            self.counts["done"] += 1
        self.rollout.settle()
        self.generations.prune()


class Puller(threading.Thread):
    """Pulls on one host, as docker there would, until ``ended``."""

    def __init__(self, worker: WorkerProcess, port: int, ended: threading.Event) -> None:
        super().__init__(daemon=True)
        self.worker = worker
        self.port = port
        self.ended = ended
        self.pulls = 0
        #: times at which the registry's certificate was not trusted
        self.distrusted: list[float] = []

    def run(self) -> None:
        while not self.ended.wait(0.1):
            now = time.monotonic()
            try:
                self._pull()
                self.pulls += 1
            except ssl.SSLCertVerificationError:
                self.distrusted.append(now)
            except (OSError, http.client.HTTPException):
                continue  # the registry restarts, maybe in the middle of a handshake

    def _pull(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        for path in (self.worker.docker / f"{NAME}:{self.port}").glob("*.crt"):
            with contextlib.suppress(FileNotFoundError):  # it was just replaced
                context.load_verify_locations(path)
        with contextlib.closing(
            http.client.HTTPSConnection(NAME, self.port, timeout=5, context=context)
        ) as it:
            it.request("GET", "/v2/")
            it.getresponse().read()


class Faults(threading.Thread):
    """Makes faults, one after the other, and keeps a log of those of hosts."""

    def __init__(self, fleet: Fleet, etcd: EtcdCluster, ended: threading.Event, seed: int) -> None:
        super().__init__(daemon=True)
        self.fleet = fleet
        self.etcd = etcd
        self.ended = ended
        self.repaired, self.closing = threading.Event(), threading.Event()
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        #: host -> when its daemon was down, from and until it was live again
        self.away: dict[str, list[tuple[float, float]]] = {name: [] for name in fleet.workers}

    def run(self) -> None:
        kinds: list[Callable[[], None]] = [
            self._kill_host, self._kill_host, self._freeze_host, self._kill_server, self._freeze_server,
            self._cut, self._compact,
        ]  # fmt: skip
        while not self.ended.wait(self.random.uniform(1, 5)):
            kind = self.random.choice(kinds)
            self.counts[kind.__name__.strip("_")] += 1
            try:
                kind()
            except (AssertionError, OSError, SysregError) as error:
                print(f"  {kind.__name__}: {error}", flush=True)
        self.repair()
        # what this thread has started ends with it
        self.repaired.set()
        self.closing.wait()

    def repair(self) -> None:
        """Let every server run."""
        for number, process in self.etcd.processes.items():
            if process.poll() is not None:
                self.etcd.start(number)
            self.etcd.signal(number, signal.SIGCONT)
        self.etcd.wait_ready()

    def _kill_host(self) -> None:
        with self._away() as worker:
            worker.kill()
            time.sleep(self.random.choice((0.1, 2, 20)))
            worker.start()

    def _freeze_host(self) -> None:
        with self._away() as worker:
            worker.signal(signal.SIGSTOP)
            time.sleep(self.random.choice((0.5, 3, 20)))
            worker.signal(signal.SIGCONT)

    @contextlib.contextmanager
    def _away(self):  # type: ignore[no-untyped-def]
        name = self.random.choice(list(self.fleet.workers))
        begin = time.monotonic()
        yield self.fleet.workers[name]
        with contextlib.suppress(AssertionError, SysregError):
            self.fleet.wait_for(State.LIVE, [name], seconds=30)
        self.away[name].append((begin, time.monotonic()))

    def _kill_server(self) -> None:
        number = self.random.randrange(3)
        self.etcd.signal(number, signal.SIGKILL)
        time.sleep(self.random.choice((0.5, 5)))
        self.repair()

    def _freeze_server(self) -> None:
        number = self.random.randrange(3)
        self.etcd.signal(number, signal.SIGSTOP)
        time.sleep(self.random.choice((1, 10)))
        self.etcd.signal(number, signal.SIGCONT)

    def _cut(self) -> None:
        self.etcd.cut()

    def _compact(self) -> None:
        with contextlib.suppress(SysregError):
            self.etcd.compact()


def unexplained(puller: Puller, faults: Faults) -> list[float]:
    """Return the failed pulls at times when the daemon of that host ran and was current."""
    away = faults.away[puller.worker.name]
    return [at for at in puller.distrusted if not any(begin <= at <= end for begin, end in away)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    ended = threading.Event()
    with (
        tempfile.TemporaryDirectory() as directory,
        EtcdCluster.running("trixie") as etcd,
        Registry(Path(directory)) as registry,
        Fleet(etcd, Path(directory) / "hosts") as fleet,
    ):
        site = Site(Path(directory) / "controller", registry, etcd)
        for number in range(_HOSTS):
            fleet.add(f"w{number}")
        site.change(1)
        fleet.wait_for(State.LIVE)
        pullers = [Puller(worker, registry.port, ended) for worker in fleet.workers.values()]
        faults = Faults(fleet, etcd, ended, options.seed)
        for thread in (*pullers, faults):
            thread.start()
        deadline, number = time.monotonic() + options.seconds, 1
        while time.monotonic() < deadline:
            number += 1
            site.change(number)
            time.sleep(_CHANGE_SECONDS)
        ended.set()
        for thread in pullers:
            thread.join()
        faults.repaired.wait()
        site.rollout.settle()
        fleet.wait_for(State.LIVE, seconds=60)
        bad = {puller.worker.name: len(found) for puller in pullers if (found := unexplained(puller, faults))}
        faults.closing.set()
    print(f"changes: {dict(site.counts)}; faults: {dict(faults.counts)}")
    pulls, distrusted = sum(it.pulls for it in pullers), sum(len(it.distrusted) for it in pullers)
    print(f"{pulls} pulls; {distrusted} failed on hosts that were away; unexplained: {bad or 'none'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
