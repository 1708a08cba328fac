"""The workers of an embedded controller: each a real ``sysreg-host`` with namespaces and files of its own.

    python -m devstack.workers FILE     join the cluster with a join file, as ``sysreg-deploy --join`` does

That is all of ``sysreg-deploy --join`` that needs no systemd.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from devstack import namespace
from devstack.endpoints import Endpoints
from devstack.keystone_server import CHECKOUT
from devstack.supervisor import MARK, Program
from sysreg_cli.settings import DEFAULT_PATH, Settings

#: the name of the controller beside those of the workers
CONTROLLER = "controller-0"
_JOIN_FILE = DEFAULT_PATH.with_name("join.json")
_THEN = """\
[ -e {settings} ] || {python} -m devstack.workers {join_file}
exec {bin}/sysreg-host
"""


@dataclass(frozen=True)
class Worker:
    """One worker. ``root`` holds its disk."""

    name: str
    root: Path

    @property
    def disk(self) -> dict[Path, Path]:
        """The directories that are its own: path inside -> path outside."""
        own = ("/etc/sysreg", "/etc/docker/certs.d", "/etc/containerd/certs.d", "/var/lib/sysreg")
        system = ("/etc/ssl/certs", "/usr/local/share/ca-certificates")
        return {Path(path): self.path(path) for path in (*own, *system)}

    def path(self, inside: str | Path) -> Path:
        """Where a file of its disk is outside, also while it is down."""
        return self.root / "disk" / str(inside).lstrip("/")

    @property
    def join_file(self) -> Path:
        """Where it looks for its join file when it starts."""
        return self.path(_JOIN_FILE)

    @property
    def has_joined(self) -> bool:
        return self.path(DEFAULT_PATH).exists()

    def program(self, mark: str) -> Program:
        """What runs it. ``mark`` is that of its controller."""
        environment = {MARK: mark, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        command = namespace.enter_new_by(self._script, self.root)
        return Program(self.name, command, CHECKOUT, environment, is_late=True)

    @property
    def _script(self) -> Path:
        return self.root / "start.sh"

    def write(self, endpoints: Endpoints, mark: str) -> None:
        """Make its disk, unless it exists, and the script that starts it."""
        for directory in self.disk.values():
            directory.mkdir(parents=True, exist_ok=True)
        ports = [endpoints.ports[name] for name in ("registry", "token_server", "etcd")]
        names = {"python": sys.executable, "bin": Path(sys.executable).parent}
        then = _THEN.format(settings=DEFAULT_PATH, join_file=_JOIN_FILE, **names)
        mark = f"{MARK}={mark}"
        self._script.write_text(namespace.script_of_worker(self.disk, endpoints.listen, ports, mark, then))

    def remove(self) -> None:
        """Remove its disk. It has to be down."""
        shutil.rmtree(self.root)

    def wipe(self) -> None:
        """Remove everything on its disk. It has to be down."""
        for directory in self.disk.values():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)


def named(directory: Path, count: int) -> list[Worker]:
    """The workers worker-1, worker-2... with their disks below ``directory``."""
    return [Worker(name, directory / name) for name in (f"worker-{n}" for n in range(1, count + 1))]


def beyond(directory: Path, count: int) -> Iterator[Worker]:
    """The workers with a disk below ``directory`` that a controller with ``count`` workers has no more."""
    wanted = {worker.name for worker in named(directory, count)}
    for root in sorted(directory.glob("worker-*")):
        if root.name not in wanted:
            yield Worker(root.name, root)


def main(arguments: list[str]) -> int:
    """Join with the file that is the one argument. It is of no use afterwards."""
    from sysreg_cli.deploy.join import join
    from sysreg_cli.errors import SysregError

    (path,) = arguments
    try:
        join(path, Settings())
    except SysregError as error:
        print(f"devstack: {error}", file=sys.stderr)
        return 1
    Path(path).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
