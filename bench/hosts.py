"""Measures how a change of the registry's certificate reaches many hosts.

    sudo .venv/bin/python -m bench.hosts [--hosts N]

50 hosts by default, each a real sysreg-host with directories of its own, on one etcd of three servers and one
registry. Shown are the seconds until the hosts trust the new certificate, and those until they are live after
the registry has changed over: the median and the last. Then how long a host takes that comes back, and what a
host needs at rest.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from sysreg_cli.cluster.judgement import State
from sysreg_cli.cluster.records import Phase
from tests import certificates as make
from tests.etcd_cluster import EtcdCluster
from tests.functional.worker.inprocess import desired
from tests.functional.worker.processes import Fleet
from tests.functional.worker.registry import NAME, Registry

_CAS = [make.authority(f"CA {number}") for number in range(2)]
_LEAVES = [make.server(authority, names=[NAME]) for authority in _CAS]
_REST_SECONDS = 30.0


def reached(fleet: Fleet, state: State, begin: float) -> list[float]:
    """Wait until each host has ``state``. Return the seconds since ``begin`` at which each was seen to."""
    seen: dict[str, float] = {}
    while len(seen) < len(fleet.workers):
        now = time.perf_counter()
        for name, judgement in fleet.judgements().items():
            if judgement.state is state:
                seen.setdefault(name, now - begin)
        assert now - begin < 300, [name for name in fleet.workers if name not in seen]
        time.sleep(0.05)
    return sorted(seen.values())


def change(fleet: Fleet, registry: Registry, number: int) -> tuple[list[float], list[float]]:
    """Change the CA. Return when each host trusted, and when each was live."""
    new, old = number % 2, (number + 1) % 2

    def publish(phase: Phase) -> float:
        value = desired(number, phase, _LEAVES[new], [_CAS[new]], [_CAS[old]], port=registry.port)
        begin = time.perf_counter()
        fleet.publish(value)
        return begin

    trusted = reached(fleet, State.TRUSTED, publish(Phase.TRUST))
    registry.present(_LEAVES[new])
    return trusted, reached(fleet, State.LIVE, publish(Phase.SETTLE))


def show(what: str, seconds: list[float]) -> None:
    print(f"{what:<28} median {statistics.median(seconds):5.2f} s   last {seconds[-1]:5.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=50)
    hosts = parser.parse_args().hosts
    with (
        tempfile.TemporaryDirectory() as directory,
        EtcdCluster.running("trixie") as etcd,
        Registry(Path(directory)) as registry,
        Fleet(etcd, Path(directory) / "hosts") as fleet,
    ):
        for number in range(hosts):
            fleet.add(f"w{number}")
        for number in range(1, 4):
            trusted, live = change(fleet, registry, number)
            show(f"change {number}: trusted", trusted)
            show(f"change {number}: live", live)
        back = next(iter(fleet.workers.values()))
        back.terminate()
        begin = time.perf_counter()
        back.start()
        show("a host that comes back", reached(fleet, State.LIVE, begin)[-1:])
        processes = [worker.process for worker in fleet.workers.values()]
        before = sum(sum(process.cpu_times()[:2]) for process in processes)
        time.sleep(_REST_SECONDS)
        used = sum(sum(process.cpu_times()[:2]) for process in processes) - before
        memory = sorted(process.memory_info().rss / 2**20 for process in processes)
        print(f"{hosts} hosts at rest: {100 * used / _REST_SECONDS / hosts:.2f} % of a CPU each")
        print(f"memory of a host: median {statistics.median(memory):.1f} MiB, most {memory[-1]:.1f} MiB")


if __name__ == "__main__":
    main()
