"""A controller of its own systemd: how long sysreg-deploy takes, and when it serves after a boot.

    sudo .venv/bin/python -m bench.controller [--rounds N]

Keystone runs already, as on controllers that have it elsewhere. "Served": a user of
Keystone got an authenticated answer of the registry through `system`, whose own time is part of the figure.
"""

from __future__ import annotations

import argparse
import statistics
import time

from devstack.keystone import RunningKeystone
from tests.controller.clients import ca_signed_certificate, system
from tests.controller.installation import configure, wait_until_served
from tests.controller.machine import ADDRESS, Machine
from tests.controller.machine_factory import DEPLOY, machine_factory


def seconds_after_multi_user(machine: Machine) -> float:
    """Boot; seconds from the machine's multi-user.target to the first user who is served."""
    machine.boot()
    wait_until_served(machine)
    served = time.monotonic()
    return served - int(machine.show("multi-user.target", "ActiveEnterTimestampMonotonic")) / 1e6


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with (
        RunningKeystone.temporary() as keystone,
        machine_factory(f"bench-{time.time_ns()}", keystone) as machines,
    ):
        deployments = []
        for _ in range(rounds):
            with machines.installed() as machine:
                configure(machine.boot())
                begin = time.monotonic()
                machine.run(DEPLOY)
                wait_until_served(machine)
                deployments.append(time.monotonic() - begin)
        print(f"from nothing to served: {_shown(deployments)} (at most 15)")

        with machines.deployed() as machine:
            boots: dict[str, list[float]] = {"self-signed": [], "an installed": []}
            for kind, figures in boots.items():
                for go_down in (machine.power_off, machine.power_cut) * rounds:
                    figures.append(seconds_after_multi_user(machine))
                    go_down()
                print(f"from multi-user.target to served, {kind} certificate: {_shown(figures)} (at most 5)")
                if kind == "self-signed":
                    seconds_after_multi_user(machine)
                    ca_signed_certificate(machine.share, "registry.local", ADDRESS)
                    install = ("certificate-install", "-m", "docker_registry", "/run/share/registry.pem")
                    system(machine, "admin", *install)
                    machine.power_off()


def _shown(figures: list[float]) -> str:
    return f"{statistics.median(figures):.1f} s, longest {max(figures):.1f} s of {len(figures)}"


if __name__ == "__main__":
    main()
