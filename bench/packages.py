"""The start of ``system`` from the Debian packages, next to that from a virtual environment.

    python -m bench.packages [--rounds 20]

A booted controller of each release of Debian has both. Prints the ratio of the CPU time of
``system registry-image-list`` on an empty registry, measured in turns.
"""

from __future__ import annotations

import argparse
import statistics
import time

from devstack.keystone import RunningKeystone
from tests.controller.debian_root import RELEASES
from tests.controller.installation import openrc
from tests.controller.machine import Machine
from tests.controller.machine_factory import machine_factory
from tests.controller.packages import deployed_by_wheel

_COMMANDS = {"packages": "/usr/bin/system", "virtual environment": "/opt/sysreg/bin/system"}


def cpu_seconds(machine: Machine, command: str) -> float:
    """User and system time of one run."""
    script = f"TIMEFORMAT='%U %S'; time {command} registry-image-list >/dev/null"
    done = machine.run("bash", "-c", script, environ=openrc(machine, "admin", "admin"))
    return sum(map(float, done.stderr.split()))


def main() -> None:
    """Measure on both releases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    with (
        RunningKeystone.temporary() as keystone,
        machine_factory(f"bench-{time.time_ns()}", keystone) as machines,
    ):
        keystone.wait_ready()
        for release in RELEASES:
            with deployed_by_wheel(machines, release) as machine:
                machine.shell("dpkg --install /run/share/*.deb </dev/null 2>&1", timeout=200)
                seconds: dict[str, list[float]] = {name: [] for name in _COMMANDS}
                for _ in range(rounds + 1):  # the first warms up
                    for name, command in _COMMANDS.items():
                        seconds[name].append(cpu_seconds(machine, command))
                package, venv = (statistics.median(figures[1:]) for figures in seconds.values())
                print(f"{release}: {package:.3f} s from the packages, {package / venv:.2f} of the other")


if __name__ == "__main__":
    main()
