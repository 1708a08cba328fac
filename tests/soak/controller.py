"""A booted controller: sysreg-deploy killed before every step, and a Keystone that comes a minute late.

    python -m tests.soak.controller [--every N]

Prints each step before which a first run of sysreg-deploy was killed, then run again. Some ten minutes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from devstack.keystone import RunningKeystone
from tests.controller.clients import login
from tests.controller.installation import configure, serves, wait_until_served
from tests.controller.machine import Machine
from tests.controller.machine_factory import DEPLOY, UNITS, machine_factory

MINUTE = 60.0
_FEW = 8
_FAILPOINT = "SYSREG_AGENT_FAILPOINT"


def steps(machine: Machine) -> list[str]:
    """The names of the steps of a first run, before any of which it can be killed; it is undone again."""
    machine.run(DEPLOY, environ={_FAILPOINT: "trace:/run/share/steps"})
    machine.run(DEPLOY, "--purge")
    trace = machine.share / "steps"
    names = trace.read_text().splitlines()
    trace.unlink()
    return names


def kill(machine: Machine, names: list[str], numbers: range) -> Iterator[str]:
    """On a machine with nothing deployed: kill a first run before each step, counted from 1, and run again.

    Yields what was done. Raises AssertionError with the step after which the second run did not repair it.
    """
    before = _traces(machine)
    for number in numbers:
        step = f"killed before step {number} of {len(names)} ({names[number - 1]})"
        try:
            environ = {_FAILPOINT: f"{number}:kill"}
            if machine.run(DEPLOY, environ=environ, status=None).returncode == 0:
                # the first run of all had some more to do
                assert number > len(names) - _FEW, "it was not killed"
                machine.run(DEPLOY, "--purge")
                continue
            repaired = machine.run(DEPLOY).stdout.splitlines()[-1]
            assert machine.run(DEPLOY, "--check").stdout == "no change\n"
            assert serves(machine)
            assert not list(machine.disk.rglob(".sysreg-*")), "the rest of an interrupted write"
            # a removal that was killed is finished by the next, too
            machine.run(DEPLOY, "--purge", environ=environ, status=None)
            machine.run(DEPLOY, "--purge")
            left = _traces(machine) ^ before
            assert not left, f"--purge left, or took, {sorted(left)}"
        except AssertionError as error:
            raise AssertionError(f"{step}: {error}") from None
        yield f"{step}: {repaired}"


def _traces(machine: Machine) -> set[str]:
    """The files and accounts of sysreg on the machine's own disk, where no program of this host writes."""
    disk = machine.disk
    files = {
        str(path.relative_to(disk))
        for path in disk.rglob("*")
        if path.relative_to(disk).parts[0] not in ("opt", "root")
    }
    accounts = [f"{name}: {line}" for name in ("passwd", "group") for line in _lines(disk / "etc" / name)]
    return {trace for trace in (*files, *accounts) if "sysreg" in trace or "certs.d/" in trace}


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def keystone_comes_later(machine: Machine, seconds: float) -> int:
    """Boot a controller without Keystone, which comes ``seconds`` after the registry.

    Returns how many logins were told to wait. Raises AssertionError if a login got another response, or if
    users are not served once Keystone is there, without a restart of a unit.
    """
    machine.run("systemctl", "disable", "--quiet", "keystone.socket")
    machine.power_off()
    machine.boot()
    for unit in UNITS:
        assert machine.show(unit, "ActiveState") == "active", unit
    up = int(machine.show(UNITS[0], "ActiveEnterTimestampMonotonic")) / 1e6
    refused = 0
    while refused < 3 or time.monotonic() - up < seconds:
        output = login(machine, "testuser", status=1)
        assert "503" in output, f"a missing Keystone is not a wrong password: {output}"
        refused += 1
        time.sleep(min(1.0, seconds))
    # what needs no Keystone works meanwhile
    assert "docker_registry" in machine.run("system", "certificate-list").stdout
    machine.run("systemctl", "start", "keystone.socket")
    wait_until_served(machine)
    assert "Login Succeeded" in login(machine, "testuser")
    for unit in UNITS:
        assert machine.show(unit, "NRestarts") in ("0", ""), unit
    return refused


def main() -> int:
    """Run both; exit status 1 if one of them fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="kill before every Nth step only")
    every = parser.parse_args().every
    with (
        RunningKeystone.temporary() as keystone,
        machine_factory(f"soak-{time.time_ns()}", keystone) as machines,
    ):
        try:
            with machines.deployed() as machine:
                refused = keystone_comes_later(machine.boot(), MINUTE)
                print(f"Keystone {MINUTE:g} s late: {refused} logins told to wait, then served", flush=True)
            with machines.installed() as machine:
                configure(machine.boot())
                names = steps(machine)
                for line in kill(machine, names, range(1, len(names) + 1, every)):
                    print(line, flush=True)
        except AssertionError as error:
            print(error)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
