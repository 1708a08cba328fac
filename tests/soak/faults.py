"""Faults of hosts, of etcd's servers and of clocks, at random, with a log of them."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from devstack.waiting import NotInTime, wait_until
from sysreg_cli.agent.hosts.fleet import Fleet
from sysreg_cli.cluster.etcd import EtcdStore
from sysreg_cli.cluster.judgement import State
from sysreg_cli.errors import SysregError
from tests.etcd_cluster import EtcdCluster
from tests.functional.worker.processes import WorkerProcess
from tests.functional.worker.site import Site, set_clock
from tests.soak.pulls import FailedPull

#: for which a host may be away: some are shorter than its lease, some longer
_AWAY = (0.3, 3.0, 12.0, 25.0)
#: within what every certificate is valid
_CLOSE_CLOCKS = ("+1h", "-1h", "+7h", "-7h", "+12h")
#: beyond that: etcd refuses the host, or the host refuses etcd
_FAR_CLOCKS = ("-3d", "+800d")


@dataclass(frozen=True)
class Fault:
    """What was wrong with ``target`` from ``begin`` to ``end``. ``back`` is when a host was current again.

    ``unreachable``: the controller could not reach this host. Times are those of time.monotonic.
    """

    kind: str
    target: str
    begin: float
    end: float
    back: float
    unreachable: bool

    def explains(self, pull: FailedPull) -> bool:
        """Whether the pull failed on a host that could not be reached at the time."""
        return (
            self.unreachable
            and self.target == pull.host
            and self.begin <= pull.end
            and pull.begin <= self.back
        )


class Faults:
    """Makes faults until ``stop``: one of a host, one of etcd and one of the agent's clock at a time."""

    def __init__(self, site: Site, etcd: EtcdCluster, seed: int) -> None:
        self.log: list[Fault] = []
        #: hosts that were not current within 30 s, and faults that could not be made
        self.problems: list[str] = []
        self._site = site
        self._etcd = etcd
        self._ended = threading.Event()
        self._closing = threading.Event()
        chance = random.Random(seed)
        hosts = [self._kill, self._freeze, self._cut_cable, self._cut_store, self._clock, self._far_clock]
        servers = [
            self._kill_server, self._freeze_server, self._cut_server, self._cut_clients, self._compact,
        ]  # fmt: skip
        self._loops = [
            _Loop(self, hosts, random.Random(chance.random()), pauses=(1, 5)),
            _Loop(self, servers, random.Random(chance.random()), pauses=(1, 5)),
            # seldom, because no change succeeds meanwhile: the registry next to the agent has the right time
            _Loop(self, [self._agents_clock], random.Random(chance.random()), pauses=(30, 90)),
        ]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Make faults. In the end, all is repaired, and every process that was started runs on."""
        for loop in self._loops:
            loop.start()
        try:
            yield
        finally:
            self._ended.set()
            for loop in self._loops:
                loop.repaired.wait()

    def close(self) -> None:
        """End the threads, and with them the processes that they have started."""
        self._closing.set()
        for loop in self._loops:
            loop.join()

    def wait_for_end(self, seconds: float) -> bool:
        """Pause. Return whether the faults have an end."""
        return self._ended.wait(seconds)

    def wait_for_close(self) -> None:
        self._closing.wait()

    # Hosts

    @contextlib.contextmanager
    def _host(self, kind: str, chance: random.Random, *, unreachable: bool = True) -> Iterator[WorkerProcess]:
        name = chance.choice(list(self._site.workers))
        begin = time.monotonic()
        yield self._site.workers[name]
        end = time.monotonic()
        back = self._wait_until_current(name, kind)
        self.log.append(Fault(kind, name, begin, end, back, unreachable))

    def _wait_until_current(self, host: str, kind: str) -> float:
        store = EtcdStore(self._etcd.access())
        fleet = Fleet(store)

        def is_current() -> bool:
            state = next(one.state for one in fleet.judgements() if one.record.name == host)
            return state in (State.LIVE, State.TRUSTED)

        try:
            wait_until(is_current, 30, pause=0.1)
        except NotInTime as error:
            self.problems.append(f"{host} is not current 30 s after: {kind}: {error}")
        finally:
            store.close()
        return time.monotonic()

    def _kill(self, chance: random.Random) -> None:
        with self._host("host killed", chance) as worker:
            worker.kill()
            time.sleep(chance.choice(_AWAY))
            worker.start()

    def _freeze(self, chance: random.Random) -> None:
        with self._host("host frozen", chance) as worker:
            worker.signal(signal.SIGSTOP)
            time.sleep(chance.choice(_AWAY))
            worker.signal(signal.SIGCONT)

    def _cut_cable(self, chance: random.Random) -> None:
        with self._host("host's cable pulled", chance) as worker:
            assert worker.machine is not None
            with worker.machine.without_network():
                time.sleep(chance.choice(_AWAY))

    def _cut_store(self, chance: random.Random) -> None:
        with self._host("host cut off from etcd", chance) as worker:
            assert worker.machine is not None
            with worker.machine.without(2379):
                time.sleep(chance.choice(_AWAY))

    def _clock(self, chance: random.Random) -> None:
        offset = chance.choice(_CLOSE_CLOCKS)
        with self._host(f"host's clock {offset}", chance, unreachable=False) as worker:
            self._bend(worker.name, offset, chance)

    def _far_clock(self, chance: random.Random) -> None:
        offset = chance.choice(_FAR_CLOCKS)
        with self._host(f"host's clock {offset}", chance) as worker:
            self._bend(worker.name, offset, chance)

    def _bend(self, program: str, offset: str, chance: random.Random) -> None:
        set_clock(self._site.root, program, offset)
        time.sleep(chance.choice(_AWAY))
        set_clock(self._site.root, program, "+0")

    # The controller and etcd

    @contextlib.contextmanager
    def _of(self, kind: str, target: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.log.append(Fault(kind, target, begin, time.monotonic(), time.monotonic(), unreachable=False))

    def _agents_clock(self, chance: random.Random) -> None:
        offset = chance.choice(_CLOSE_CLOCKS)
        with self._of(f"agent's clock {offset}", "controller"):
            self._bend("agent", offset, chance)

    def _kill_server(self, chance: random.Random) -> None:
        number = chance.randrange(3)
        with self._of("etcd's server killed", f"m{number}"):
            self._etcd.signal(number, signal.SIGKILL)
            time.sleep(chance.choice((0.5, 5)))
            self._etcd.start(number)
            self._etcd.wait_ready()

    def _freeze_server(self, chance: random.Random) -> None:
        number = chance.randrange(3)
        with self._of("etcd's server frozen", f"m{number}"):
            self._etcd.signal(number, signal.SIGSTOP)
            time.sleep(chance.choice((1, 10)))
            self._etcd.signal(number, signal.SIGCONT)
            self._etcd.wait_ready()

    def _cut_server(self, chance: random.Random) -> None:
        number = chance.randrange(3)
        with self._of("etcd's server cut off", f"m{number}"):
            with self._etcd.cut_off(number):
                time.sleep(chance.choice((1, 10)))
            self._etcd.wait_ready()

    def _cut_clients(self, chance: random.Random) -> None:
        with self._of("etcd's connections reset", "all"):
            self._etcd.cut()

    def _compact(self, chance: random.Random) -> None:
        with self._of("etcd's revisions forgotten", "all"), contextlib.suppress(SysregError):
            self._etcd.compact()


class _Loop(threading.Thread):
    """One fault after the other. The processes that it starts end with this thread."""

    def __init__(
        self,
        faults: Faults,
        kinds: Sequence[Callable[[random.Random], None]],
        chance: random.Random,
        *,
        pauses: tuple[float, float],
    ) -> None:
        super().__init__(daemon=True)
        self.repaired = threading.Event()
        self._faults = faults
        self._kinds = kinds
        self._chance = chance
        self._pauses = pauses

    def run(self) -> None:
        try:
            while not self._faults.wait_for_end(self._chance.uniform(*self._pauses)):
                kind = self._chance.choice(self._kinds)
                try:
                    kind(self._chance)
                except Exception as error:
                    self._faults.problems.append(f"{kind.__name__}: {type(error).__name__}: {error}")
        finally:
            self.repaired.set()
        self._faults.wait_for_close()
