"""Makes the machines of a test run. Their common disks are made once."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from devstack.keystone import RunningKeystone
from tests.controller.furnish import configure, connect, furnish
from tests.controller.machine import MEMORY, Machine

DEPLOY = "/opt/sysreg/bin/sysreg-deploy"
UNITS = (
    "docker-registry.service",
    "sysreg-token-server.service",
    "sysreg-agent.service",
    "sysreg-agent.socket",
)
#: the places that sysreg-deploy writes to
_LIST = "find /etc /usr/local /var/lib -ignore_readdir_race -xdev -printf '%y %p\\n' | sort"


@dataclass(frozen=True)
class Workshop:
    """Makes machines; ``directory`` is of the whole run, ``keystone`` of this process."""

    directory: Path
    keystone: RunningKeystone

    def installed(self) -> Machine:
        """A machine with our wheel, and nothing deployed; it isn't booted."""
        return self._machine(self._once("installed", Machine, furnish))

    def deployed(self) -> Machine:
        """A controller on which sysreg-deploy was run; it isn't booted."""
        installed = self._once("installed", Machine, furnish)
        return self._machine(self._once("deployed", self.installed, self._deploy), installed)

    def written(self) -> list[tuple[str, Path]]:
        """What that run of sysreg-deploy made: ``f`` file, ``d`` directory or ``l`` link, and the path."""
        self._once("deployed", self.installed, self._deploy)
        lines = (self.directory / "written").read_text().splitlines()
        return [(line[0], Path(line[2:])) for line in lines]

    def _machine(self, *lower: Path) -> Machine:
        machine = Machine(lower=lower)
        connect(machine, self.keystone)
        return machine

    def _deploy(self, machine: Machine) -> None:
        configure(machine)
        before = machine.shell(_LIST).stdout.splitlines()
        machine.run(DEPLOY)
        after = machine.shell(_LIST).stdout.splitlines()
        (self.directory / "written").write_text("\n".join(sorted(set(after) - set(before))))

    def _once(self, name: str, make: Callable[[], Machine], prepare: Callable[[Machine], None]) -> Path:
        """The disk ``name`` of this run, by the first process that needs it; the others wait."""
        disk = self.directory / name
        if not disk.exists():
            with (self.directory / f"{name}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not disk.exists():
                    with make() as machine:
                        prepare(machine.boot())
                        machine.power_off()
                        machine.disk.rename(disk)
        return disk


@contextlib.contextmanager
def workshop(run: str, keystone: RunningKeystone) -> Iterator[Workshop]:
    """The workshop of the test run named ``run``; the last process to leave it clears it away."""
    directory = MEMORY / f"sysreg-machine-{run}"
    with contextlib.ExitStack() as stack:
        users = _enter(directory)
        stack.callback(_leave, users, directory)
        yield Workshop(directory, keystone)


def _enter(directory: Path) -> int:
    """A shared lock that says that the directory is in use."""
    while True:
        directory.mkdir(exist_ok=True)
        path = directory / "users"
        with contextlib.suppress(FileNotFoundError):  # somebody has just left it
            users = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(users, fcntl.LOCK_SH)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(path.stat(), os.fstat(users)):
                    return users
            os.close(users)


def _leave(users: int, directory: Path) -> None:
    with contextlib.suppress(BlockingIOError):  # others are still at work
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory)
    os.close(users)
