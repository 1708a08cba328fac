"""Changes the CA of the registry again and again, while hosts, servers of etcd and clocks fail.

    sudo .venv/bin/python -m tests.soak.hosts [--seconds N] [--seed N]

It takes 20 minutes. A whole controller and six hosts, each a machine of its own with a real sysreg-host, use
three real servers of etcd. Every 15 seconds ``system certificate-install`` installs a certificate of another
CA. Meanwhile a host is killed, frozen, cut off or has a wrong clock; a server of etcd is killed, frozen or
cut off; connections break, and revisions are forgotten; and the clock of the agent is wrong by hours.

On each host, pulls go on all the time, with what docker and containerd trust there. One may fail only on a
host that could not be reached at the time. In the end every host is live, says so truly, and no daemon has
grown.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

import psutil
from cryptography import x509

from devstack import temporary
from devstack.programs import AGENT, TOKEN_SERVER
from devstack.waiting import NotInTime, wait_until
from sysreg_cli.cluster.judgement import State
from tests.etcd_cluster import EtcdCluster
from tests.functional.worker.site import Site, site_on_a_bridge
from tests.soak.faults import Fault, Faults
from tests.soak.pulls import FailedPull, Puller

_HOSTS = 6
_CHANGE_SECONDS = 15.0
#: MiB by which the memory of a daemon may grow, after the first changes
_MAX_GROWTH = 8.0


class Installs:
    """Installs certificates, and counts what came of it."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []

    def change(self, number: int) -> None:
        done = self.site.controller.system(
            "certificate-install", "-m", "docker_registry", self.site.certificate(f"CA {number}")
        )
        if "old certificate is still in use" in done.stderr:
            self.counts["refused"] += 1
            print(f"  change {number} ({_clock()}) refused: {done.stderr.strip()}", flush=True)
        else:
            self.counts["live on all hosts" if done.returncode == 0 else "in use, hosts behind"] += 1
            if done.returncode:
                print(f"  change {number} ({_clock()}): {done.stderr.strip()}", flush=True)
        self._look_for_an_older_store(number)

    def _look_for_an_older_store(self, number: int) -> None:
        """Note the hosts that have seen a later change than the store has: nobody restores etcd here."""
        listed = self.site.controller.system("registry-host-list", "-f", "json")
        if listed.returncode:
            return  # etcd elects
        for row in json.loads(listed.stdout):
            if row["state"] == State.AHEAD:
                shown = self.site.controller.system("registry-host-show", row["host"]).stdout
                self.problems.append(f"after change {number}, {row['host']} is ahead: {shown}")


class Memory:
    """The resident memory of the daemons: of each process, when it was first seen and last."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._seen: dict[tuple[str, int], tuple[float, float]] = {}

    def look(self) -> None:
        processes = {name: worker.pid for name, worker in self._site.workers.items()}
        processes |= {name: self._site.controller.pid(name) for name in (AGENT, TOKEN_SERVER)}
        for name, pid in processes.items():
            try:
                now = psutil.Process(pid).memory_info().rss / 2**20
            except psutil.Error:
                continue
            first, _ = self._seen.get((name, pid), (now, now))
            self._seen[name, pid] = (first, now)

    def grown(self) -> dict[str, str]:
        """Return what has grown too much, as text."""
        return {
            f"{name} ({pid})": f"{first:.1f} to {last:.1f} MiB"
            for (name, pid), (first, last) in self._seen.items()
            if last - first > _MAX_GROWTH
        }

    def __str__(self) -> str:
        hosts = [last for (name, _), (_, last) in self._seen.items() if name in self._site.workers]
        others = [
            f"{name} {first:.1f} to {last:.1f}"
            for (name, _), (first, last) in self._seen.items()
            if name not in self._site.workers
        ]
        most = max(last - first for first, last in self._seen.values())
        return (
            f"memory in MiB: {', '.join(others)}; {len(hosts)} processes sysreg-host: median"
            f" {statistics.median(hosts):.1f}, most {max(hosts):.1f}; most growth {most:.1f}"
        )


def _clock() -> str:
    return datetime.now().strftime("%H:%M:%S")


def falsehoods(site: Site) -> list[str]:
    """Return where registry-host-list or the disk of a host differs from what the registry serves."""
    chain = x509.load_pem_x509_certificates(site.controller.paths.ca_file.read_bytes())
    signature = site.json("certificate-show", "docker_registry")["signature"]
    found = []
    for row in site.json("registry-host-list"):
        if (row["state"], row["certificate"]) != ("live", signature):
            found.append(f"{row['host']} is {row['state']} with {row['certificate']}, not {signature}")
        if row["host"] not in site.workers:
            continue
        worker = site.workers[row["host"]]
        for root in (worker.docker, worker.containerd):
            files = list(root.glob("registry.local:9001/*.crt"))
            held = [one for path in files for one in x509.load_pem_x509_certificates(path.read_bytes())]
            if held != chain[-1:]:
                found.append(f"{row['host']} trusts another CA in {root}")
    return found


def settle(site: Site) -> list[str]:
    """Wait until all is live and true. Return what is not, and print the logs that tell why."""
    with contextlib.suppress(NotInTime):
        wait_until(lambda: not falsehoods(site), 60, pause=1)
    if wrong := falsehoods(site):
        for worker in site.workers.values():
            print(f"{worker.name}:\n{worker.log()[-2000:]}")
        print(f"agent:\n{site.controller.log(AGENT)[-4000:]}")
    return wrong


def report(pullers: list[Puller], faults: Faults, begin: float) -> list[FailedPull]:
    """Print each failed pull with the fault that explains it. Return those that none does."""
    unexplained = []
    for pull in sorted((pull for puller in pullers for pull in puller.failed), key=lambda pull: pull.begin):
        fault = next((fault for fault in faults.log if fault.explains(pull)), None)
        if fault is None:
            unexplained.append(pull)
        print(
            f"  pull on {pull.host} ({pull.client}) at {pull.begin - begin:.1f} to {pull.end - begin:.1f} s:"
            f" {pull.reason}: {_text(fault, begin) if fault else 'UNEXPLAINED'}"
        )
        if fault is None:
            for near in faults.log:
                if near.begin - 5 < pull.end and pull.begin < near.back + 5:
                    print(f"      near: {_text(near, begin)}")
    return unexplained


def _text(fault: Fault, begin: float) -> str:
    times = (fault.begin - begin, fault.end - begin, fault.back - begin)
    return f"{fault.kind} ({fault.target}) at {times[0]:.1f} to {times[1]:.1f} s, current at {times[2]:.1f} s"


def show_faults(faults: Faults) -> None:
    counts = Counter(fault.kind.split(" +")[0].split(" -")[0] for fault in faults.log)
    print(f"faults: {dict(counts)}")
    returns = sorted(fault.back - fault.end for fault in faults.log if fault.unreachable)
    if returns:
        slow = sum(1 for seconds in returns if seconds > 5)
        print(
            f"hosts were current again after {statistics.median(returns):.1f} s (median),"
            f" {returns[-1]:.1f} s (most), over 5 s: {slow} of {len(returns)}"
        )


def run(site: Site, etcd: EtcdCluster, seconds: float, seed: int) -> int:
    """Return the exit status."""
    ended, begin = threading.Event(), time.monotonic()
    installs, memory, faults = Installs(site), Memory(site), Faults(site, etcd, seed)
    password = site.controller.passwords["testuser"]
    pullers = [Puller(worker, password, ended) for worker in site.workers.values()]
    for puller in pullers:
        puller.start()
    with faults.running():
        number = 0
        while time.monotonic() < begin + seconds:
            number += 1
            installs.change(number)
            time.sleep(_CHANGE_SECONDS)
            if number > 2:
                memory.look()
    wrong = settle(site)
    ended.set()
    for puller in pullers:
        puller.join()
    memory.look()
    unexplained = report(pullers, faults, begin)
    faults.close()
    show_faults(faults)
    print(f"changes: {dict(installs.counts)}")
    print(memory)
    failed = sum(len(puller.failed) for puller in pullers)
    print(f"{sum(puller.done for puller in pullers)} pulls; {failed} failed, {len(unexplained)} unexplained")
    grown = memory.grown()
    problems = faults.problems + installs.problems
    print(f"problems: {problems or 'none'}; grown: {grown or 'none'}; untrue: {wrong or 'none'}")
    if unexplained or problems or grown or wrong:
        print(f"the logs are in {keep_logs(site, etcd, faults, begin)}")
        return 1
    return 0


def keep_logs(site: Site, etcd: EtcdCluster, faults: Faults, begin: float) -> Path:
    """Copy the logs of all programs, and the log of faults, to a directory that stays."""
    directory = Path(tempfile.mkdtemp(prefix="sysreg-soak-hosts-", dir="/var/tmp"))
    shutil.copytree(site.controller.paths.log, directory / "controller")
    for worker in site.workers.values():
        (directory / f"{worker.name}.log").write_text(worker.log())
    for log in etcd.directory.glob("*.log"):
        shutil.copy2(log, directory / f"etcd-{log.name}")
    times = f"second 0 is {datetime.fromtimestamp(time.time() - time.monotonic() + begin).isoformat()}"
    (directory / "faults").write_text("\n".join([times, *(_text(fault, begin) for fault in faults.log), ""]))
    return directory


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with (
        temporary.directory("soak-hosts-") as directory,
        EtcdCluster.running("trixie") as etcd,
        site_on_a_bridge(etcd, Path(directory) / "site", _HOSTS, clocks=True) as site,
    ):
        for name in site.workers:
            site.wait_for(name, "live")
        return run(site, etcd, options.seconds, options.seed)


if __name__ == "__main__":
    sys.exit(main())
