"""The Debian packages: dpkg killed at every kind of place in postinst, on Debian 12 and 13.

    python -m tests.soak.packages [RELEASE...]

Upgrades a controller from an older version, kills apt, dpkg and sysreg-deploy where postinst has got to one
place, and lets `dpkg --configure -a` finish it. Prints each place, and what the packages take: size, packages
drawn in, seconds to install and to serve. Ten minutes.
"""

from __future__ import annotations

import sys
import time

from devstack.keystone import RunningKeystone
from tests.controller.debian_root import PACKAGES, RELEASES
from tests.controller.installation import apt, configure, listen_for_keystone, serves, wait_until_served
from tests.controller.machine_factory import DEPLOY, MachineFactory, machine_factory
from tests.controller.packages import OLD, interrupt, make_old_packages, repair_after_interruption

#: the first words of the names of failpoints that an upgrade reaches
_PLACES = ("write deploy.json", "write sysreg-agent.service", "run systemctl", "run nft", "admit connections")
_KEEP_SETTINGS = "--option Dpkg::Options::=--force-confold"


def measure(machines: MachineFactory, release: str) -> str:
    """Install the packages on a machine with nothing of them, deploy, and return the figures."""
    with machines.fresh(release) as machine:
        listen_for_keystone(machine.boot(), now=True)
        before = set(machine.run("dpkg-query", "--show").stdout.splitlines())
        size = machine.shell(f"du --total --bytes {PACKAGES}/*.deb | tail -n 1").stdout.split()[0]
        started = time.monotonic()
        apt(machine, "install", f"{PACKAGES}/*.deb")
        installed = time.monotonic()
        drawn_in = len(set(machine.run("dpkg-query", "--show").stdout.splitlines()) - before) - 2
        configure(machine)
        deploying = time.monotonic()
        machine.run(DEPLOY)
        wait_until_served(machine)
        return (
            f"{int(size) / 1e6:.1f} MB, {drawn_in} packages drawn in, installed in {installed - started:.0f}"
            f" s, served {time.monotonic() - deploying:.1f} s after the start of sysreg-deploy"
        )


def interrupted(machines: MachineFactory, release: str, place: str) -> None:
    """Upgrade, killed at ``place``, and finish. Raises AssertionError."""
    with machines.packaged(release) as machine:
        make_old_packages(machine.boot())
        apt(machine, "install --allow-downgrades", _KEEP_SETTINGS, OLD)
        configure(machine)
        machine.run(DEPLOY)
        wait_until_served(machine)
        interrupt(machine, f"install {_KEEP_SETTINGS} {PACKAGES}/*.deb", place)
        wait_until_served(machine, 30)
        repair_after_interruption(machine)
        assert serves(machine)


def main() -> int:
    """Run all; exit status 1 if one fails."""
    with (
        RunningKeystone.temporary() as keystone,
        machine_factory(f"soak-{time.time_ns()}", keystone) as machines,
    ):
        keystone.wait_ready()
        try:
            for release in sys.argv[1:] or RELEASES:
                print(f"{release}: {measure(machines, release)}", flush=True)
                for place in _PLACES:
                    interrupted(machines, release, place)
                    print(f"{release}: killed at {place}: finished by dpkg --configure -a", flush=True)
        except AssertionError as error:
            print(error)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
