"""A worker whose daemon runs in threads of the test, with directories of its own."""

from __future__ import annotations

import threading
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

from devstack.waiting import wait_until
from sysreg_cli.cluster.follow import Follower
from sysreg_cli.cluster.follow import Pace as StorePace
from sysreg_cli.cluster.keys import CERTIFICATE, DESIRED, Part, host_key
from sysreg_cli.cluster.port import Delete, Put, Rights, User
from sysreg_cli.cluster.problems import Problem
from sysreg_cli.cluster.records import (
    Anchor,
    ChangeId,
    DesiredCertificate,
    HostStatus,
    Outcome,
    Phase,
    decode,
    encode,
)
from sysreg_cli.errors import Unavailable
from sysreg_cli.settings import PathSettings, Settings
from sysreg_cli.worker.acting import fingerprint
from sysreg_cli.worker.duty import Duty
from sysreg_cli.worker.loop import Loop, Pace
from sysreg_cli.worker.presence import Presence
from sysreg_cli.worker.reconciler import Reconciler
from sysreg_cli.worker.reporter import Reporter
from tests import certificates as make
from tests.functional.worker.registry import NAME
from tests.memory_store import MemoryCluster, MemoryStore


def desired(
    number: int,
    phase: Phase,
    leaf: make.Issued,
    anchors: Sequence[make.Issued],
    retiring: Sequence[make.Issued] = (),
    *,
    port: int,
) -> DesiredCertificate:
    """What a controller would publish."""

    def as_anchors(issued: Sequence[make.Issued]) -> tuple[Anchor, ...]:
        return tuple(Anchor(fingerprint(one.certificate), one.pem.decode()) for one in issued)

    return DesiredCertificate(
        ChangeId(number, f"id-{number}"),
        phase,
        as_anchors(anchors),
        as_anchors(retiring),
        leaf.pem.decode(),
        fingerprint(leaf.certificate),
        (NAME,),
        port,
    )


class Publisher:
    """Writes what is desired, as the controller's agent does."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self._store = cluster.administrator()

    def publish(self, value: DesiredCertificate) -> None:
        self.publish_raw(encode(value))

    def publish_raw(self, value: bytes | None) -> None:
        write = Put(CERTIFICATE, value) if value is not None else Delete(CERTIFICATE)
        self._store.transact([], [write])


class CutStore(MemoryStore):
    """A client that may be cut off from the store."""

    is_cut = False

    def _check(self, **keys: str) -> None:
        if self.is_cut:
            raise Unavailable("no server of the store answers")
        super()._check(**keys)


class Worker:
    """As a context: a running worker."""

    def __init__(self, cluster: MemoryCluster, root: Path, name: str = "w1") -> None:
        self.name = name
        self.cluster = cluster
        self.settings = Settings(
            paths=PathSettings(
                state=root / "state",
                docker_trust=root / "docker",
                containerd_trust=root / "containerd",
            )
        )
        self.settings.paths.state.mkdir(parents=True, exist_ok=True)
        user = User(f"host-{name}", "secret")
        writes = [host_key(name, Part.STATUS), host_key(name, Part.ALIVE)]
        cluster.administrator().put_user(user, Rights([DESIRED], writes))
        self._store = CutStore(cluster, user)
        self._administrator = cluster.administrator()

    def __enter__(self) -> Worker:
        self.problems: list[str] = []
        self.looked = threading.Event()
        reporter = Reporter(self._store, self.name, "boot")
        pace = Pace(healthy=0.2, first_retry=0.05, max_retry=0.2)
        duty = Duty(CERTIFICATE, DesiredCertificate, Reconciler(self.settings), reporter.tell)
        self._loop = Loop(duty.look, on_first_look=self.looked.set, pace=pace)
        trouble: Callable[[Exception], None] = lambda error: self.problems.append(str(error))  # noqa: E731
        store_pace = StorePace(longest_pause=0.2, longest_after_refusal=0.2)
        self._follower = Follower(self._store, DESIRED, self._loop.see, trouble, store_pace)
        self._presence = Presence(self._store, self.name, "boot")
        self._presence.start()
        self._threads = [threading.Thread(target=one) for one in (self._follower.run, self._loop.run)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._follower.stop()
        self._loop.stop()
        for thread in self._threads:
            thread.join()
        self._presence.stop()

    def cut_off(self, is_cut: bool) -> None:
        """Let the store be out of reach of this worker alone, or let it be there again."""
        self._store.is_cut = is_cut
        self.cluster.cut()

    def status(self) -> HostStatus | None:
        """What the worker says of itself."""
        entry = self._administrator.get(host_key(self.name, Part.STATUS))
        return decode(HostStatus, entry.value, entry.key) if entry else None

    def wait_for(self, outcome: Outcome, about: DesiredCertificate) -> HostStatus:
        """Wait until the worker reports this outcome of that desired state."""

        def reported() -> HostStatus | None:
            status = self.status()
            wanted = (outcome, about.change, about.phase)
            right = status and (status.outcome, status.change, status.phase) == wanted
            return status if right else None

        try:
            found = wait_until(reported, 20, what=f"{outcome} of change {about.change.number}")
        except AssertionError as error:
            error.add_note(f"its status is {self.status()}")
            raise
        assert found
        return found

    def wait_for_problem(self, problem: Problem) -> None:
        """Wait until the worker reports this problem."""
        wait_until(lambda: getattr(self.status(), "problem", "") == problem, 20, what=problem)

    def directory(self, client: str, port: int) -> Path:
        paths = self.settings.paths
        return (paths.docker_trust if client == "docker" else paths.containerd_trust) / f"{NAME}:{port}"

    def trusted(self, port: int) -> tuple[set[bytes], set[bytes]]:
        """The certificates that docker and containerd trust, PEM, from the files that they read."""
        docker = self.directory("docker", port).glob("*.crt")
        hosts = self.directory("containerd", port) / "hosts.toml"
        tables = tomllib.loads(hosts.read_text())["host"].values() if hosts.exists() else ()
        containerd = (Path(name) for table in tables for name in table["ca"])
        return set(make.pems_in(docker)), set(make.pems_in(containerd))
