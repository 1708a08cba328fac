"""Makes the machines of the controller tests. The disks that they start from are made once for each run."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from devstack.keystone import RunningKeystone
from tests.controller import debian_root
from tests.controller.installation import configure, connect, install_packages, install_wheel
from tests.controller.machine import MEMORY, Machine

DEPLOY = "sysreg-deploy"
UNITS = (
    "docker-registry.service",
    "sysreg-token-server.service",
    "sysreg-agent.service",
    "sysreg-agent.socket",
)
#: lists what is in the directories that sysreg-deploy writes to
_LIST = "find /etc /usr/local /var/lib -ignore_readdir_race -xdev -printf '%y %p\\n' | sort"


@dataclass(frozen=True)
class MachineFactory:
    """Makes machines. All test processes of a run share ``directory``, which holds the disks.

    ``installed`` and ``deployed`` have the wheel on this host's release of Debian, and start from the host's
    files. On the other release they have the packages, and start from a root of its own.
    """

    directory: Path
    keystone: RunningKeystone

    def fresh(self, release: str) -> Machine:
        """A machine of a release of Debian, with the packages as files. It is not booted."""
        return self._machine(debian_root.layers(release))

    def packaged(self, release: str) -> Machine:
        """A machine with the packages, on which nothing is deployed. It is not booted."""
        disk = self._once(f"packaged-{release}", lambda: self.fresh(release), install_packages)
        return self._machine([disk, *debian_root.layers(release)])

    def installed(self, release: str = debian_root.HOST) -> Machine:
        """A machine with sysreg, on which nothing is deployed. It is not booted."""
        if release != debian_root.HOST:
            return self.packaged(release)
        return self._machine([self._once("installed", Machine, install_wheel), Path("/")])

    def deployed(self, release: str = debian_root.HOST) -> Machine:
        """A machine on which sysreg-deploy was run. It is not booted."""
        with self.installed(release) as installed:
            return self._machine([self._deployed(release), *installed.lower])

    def written(self, release: str) -> list[tuple[str, Path]]:
        """What that run of sysreg-deploy wrote: ``f`` file, ``d`` directory or ``l`` link, and the path."""
        self._deployed(release)
        lines = (self.directory / f"written-{release}").read_text().splitlines()
        return [(line[0], Path(line[2:])) for line in lines]

    def _machine(self, lower: Sequence[Path]) -> Machine:
        machine = Machine(lower=lower)
        connect(machine, self.keystone)
        return machine

    def _deployed(self, release: str) -> Path:
        def deploy(machine: Machine) -> None:
            configure(machine)
            before = machine.shell(_LIST).stdout.splitlines()
            machine.run(DEPLOY)
            after = machine.shell(_LIST).stdout.splitlines()
            written = "\n".join(sorted(set(after) - set(before)))
            (self.directory / f"written-{release}").write_text(written)

        return self._once(f"deployed-{release}", lambda: self.installed(release), deploy)

    def _once(self, name: str, make: Callable[[], Machine], prepare: Callable[[Machine], None]) -> Path:
        """The disk ``name`` of this run. The first process that needs it makes it; the others wait."""
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
def machine_factory(run: str, keystone: RunningKeystone) -> Iterator[MachineFactory]:
    """The factory of the test run named ``run``. The last of its processes removes the disks."""
    directory = MEMORY / f"sysreg-machine-{run}"
    with contextlib.ExitStack() as stack:
        users = _enter(directory)
        stack.callback(_leave, users, directory)
        yield MachineFactory(directory, keystone)


def _enter(directory: Path) -> int:
    """Take a shared lock: the directory is in use."""
    while True:
        directory.mkdir(exist_ok=True)
        path = directory / "users"
        with contextlib.suppress(FileNotFoundError):  # the last user has just removed it
            users = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(users, fcntl.LOCK_SH)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(path.stat(), os.fstat(users)):
                    return users
            os.close(users)


def _leave(users: int, directory: Path) -> None:
    with contextlib.suppress(BlockingIOError):  # other processes use it
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory)
    os.close(users)
