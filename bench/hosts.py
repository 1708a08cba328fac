"""Measures how a change of the registry's certificate reaches many hosts.

    sudo .venv/bin/python -m bench.hosts [--hosts N] [--rest SECONDS]

By default 50 hosts, each a machine of its own (network and mount namespace, its own /etc) with a real
sysreg-host, on a whole controller and an etcd of three servers. Shown are the seconds from the command
``certificate-install`` to the moment at which hosts have seen the new certificate themselves; how long a host
takes that comes back; after how long one that went is shown as down; and what a host needs at rest.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import threading
import time

from devstack import temporary
from devstack.waiting import wait_until
from sysreg_cli.agent.hosts.fleet import Fleet
from sysreg_cli.cluster.etcd import EtcdStore
from sysreg_cli.cluster.follow import Follower
from sysreg_cli.cluster.judgement import State
from sysreg_cli.cluster.keys import HOSTS, Part, parse_host_key
from sysreg_cli.cluster.port import Listing
from sysreg_cli.cluster.records import HostStatus, Outcome, decode
from tests.etcd_cluster import EtcdCluster
from tests.functional.worker.site import Site, site_on_a_bridge

_CHANGES = 4


class Bench:
    """``fleet`` is the controller's view of the hosts."""

    def __init__(self, site: Site, etcd: EtcdCluster, fleet: Fleet) -> None:
        self.site = site
        self.etcd = etcd
        self.fleet = fleet
        self.first, *self.others = site.workers.values()
        self._installed = 0

    def install(self) -> None:
        self._installed += 1
        self.site.controller.system(
            "certificate-install", "-m", "docker_registry", "--wait", "60",
            self.site.certificate(f"CA {self._installed}"),
        )  # fmt: skip

    def change(self) -> tuple[list[float], float]:
        """Change the CA. Return after how many seconds each host was live, and the command had ended."""
        desired = self.fleet.desired()
        before, begin = desired.change.number if desired else 0, time.perf_counter()
        ended: list[float] = []

        def command() -> None:
            self.install()
            ended.append(time.perf_counter() - begin)

        thread = threading.Thread(target=command)
        thread.start()
        seconds = self._live_after(begin, before)
        thread.join()
        return seconds, ended[0]

    def _live_after(self, begin: float, before: int) -> list[float]:
        """Return when each host said that it is live with a later change than ``before``."""
        seen: dict[str, float] = {}

        def see(listing: Listing) -> None:
            now = time.perf_counter() - begin
            for key, entry in listing.entries.items():
                host, part = parse_host_key(key) or ("", None)
                if part is Part.STATUS and host not in seen:
                    status = decode(HostStatus, entry.value, key)
                    if status.outcome is Outcome.LIVE and status.change.number > before:
                        seen[host] = now

        store = EtcdStore(self.etcd.access())
        follower = Follower(store, HOSTS, see, lambda _error: None)
        thread = threading.Thread(target=follower.run)
        thread.start()
        wait_until(lambda: len(seen) == len(self.site.workers), 300, pause=0.1)
        follower.stop()
        thread.join()
        store.close()
        return sorted(seen.values())

    def until(self, state: State) -> float:
        """Wait until the first host has this state. Return the seconds."""
        begin = time.perf_counter()
        wait_until(lambda: self._state() is state, 120, pause=0.02)
        return time.perf_counter() - begin

    def _state(self) -> State:
        name = self.first.name
        return next(one.state for one in self.fleet.judgements() if one.record.name == name)

    def down(self, *, with_election: bool = False) -> float:
        """Return after how many seconds a host is shown as down whose network ends."""
        assert self.first.machine is not None
        leader = self.etcd.leader()
        with self.first.machine.without_network():
            if with_election:
                self.etcd.signal(leader, signal.SIGKILL)
            seconds = self.until(State.DOWN)
        if with_election:
            self.etcd.start(leader)
            self.etcd.wait_ready()
        self.until(State.LIVE)
        return seconds

    def network_returns(self) -> float:
        """Return after how many seconds a host is current that had no network during a change."""
        assert self.first.machine is not None
        with self.first.machine.without_network():
            self.until(State.DOWN)
            self.install()
        return self.until(State.LIVE)

    def daemon_starts(self) -> float:
        """Return after how many seconds a host is current whose daemon was down during a change."""
        self.first.terminate()
        self.install()
        self.first.start()
        return self.until(State.LIVE)

    def rest(self, seconds: float) -> None:
        processes = [worker.process for worker in self.site.workers.values()]
        before = [sum(process.cpu_times()[:2]) for process in processes]
        time.sleep(seconds)
        used = [
            100 * (sum(process.cpu_times()[:2]) - then) / seconds
            for process, then in zip(processes, before, strict=True)
        ]
        memory = [process.memory_info().rss / 2**20 for process in processes]
        _show(f"CPU over {seconds:g} s at rest", used, "%")
        _show("memory of a host", memory, "MiB")


def _show(what: str, values: list[float], unit: str = "s") -> None:
    load = os.getloadavg()[0]
    print(
        f"{what:<46} median {statistics.median(values):6.2f} {unit}   most {max(values):6.2f} {unit}"
        f"   (load {load:.1f})",
        flush=True,
    )


def run(bench: Bench, rest: float) -> None:
    for number in range(1, _CHANGES + 1):
        seconds, ended = bench.change()
        _show(f"change {number}: hosts live after", seconds)
        _show(f"change {number}: command ended after", [ended])
    _show("current after the start of its daemon", [bench.daemon_starts() for _ in range(3)])
    _show("current after the return of its network", [bench.network_returns() for _ in range(3)])
    _show("shown as down", [bench.down() for _ in range(3)])
    _show("shown as down while etcd elects", [bench.down(with_election=True) for _ in range(3)])
    bench.rest(rest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=50)
    parser.add_argument("--rest", type=float, default=300.0)
    options = parser.parse_args()
    with (
        temporary.directory("bench-hosts-") as directory,
        EtcdCluster.running("trixie") as etcd,
        site_on_a_bridge(etcd, directory / "site", options.hosts) as site,
    ):
        store = EtcdStore(etcd.access())
        bench = Bench(site, etcd, Fleet(store))
        wait_until(lambda: all(one.state is State.LIVE for one in bench.fleet.judgements()), 120, pause=0.2)
        run(bench, options.rest)
        store.close()


if __name__ == "__main__":
    main()
