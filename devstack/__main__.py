"""``python -m devstack up [HOSTS]|down|remove``: the embedded controller of ``make run``, on usual ports."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from devstack import tour
from devstack.controller import Controller
from devstack.endpoints import ETCD_PORT, USUAL_PORTS
from devstack.errors import DevstackError
from devstack.keystone_server import CHECKOUT
from devstack.options import Options


@dataclass(frozen=True)
class Installation:
    """The embedded controller of a checkout."""

    # Not in the checkout: docker-registry's user can't look into somebody's home directory.
    root: Path = Path("/var/lib/sysreg-devstack") / hashlib.sha256(bytes(CHECKOUT)).hexdigest()[:8]
    #: the directory for the openrc files
    run: Path = CHECKOUT / ".run"
    ports: Mapping[str, int] = field(default_factory=lambda: {**USUAL_PORTS, "etcd": ETCD_PORT})
    #: workers beside the controller
    hosts: int = 0

    @property
    def controller(self) -> Controller:
        return Controller(self.root, Options(ports=self.ports, hosts=self.hosts, outlive=True))

    def up(self) -> None:
        """Start what does not run, write the openrc files, push two images and show the main job."""
        if os.geteuid() != 0:
            raise DevstackError("the embedded controller needs root: run `make run` as root or with sudo")
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            controller = self.controller
            started_from = self.root / "started-from"
            fingerprint = _fingerprint(self.hosts)
            if started_from.exists() and started_from.read_text() != fingerprint:
                controller.stop()  # it runs other programs
            controller.start()
            started_from.write_text(fingerprint)
            self.write_openrc(controller, "openrc", "admin")
            self.write_openrc(controller, "openrc.testuser", "testuser")
            self._write_scripts(controller)
            tour.show(controller, self.run)

    def down(self) -> None:
        """Stop every process; images and users stay for the next start."""
        if self.root.exists():
            self._found().stop()

    def remove(self) -> None:
        """Stop, and remove images, users and keys."""
        if self.root.exists():
            self._found().remove()

    def _found(self) -> Controller:
        """The controller that an earlier process has started. Its ports name the trust that goes with it."""
        controller = self.controller
        controller.ports.update(self.ports)
        return controller

    def write_openrc(self, controller: Controller, name: str, user: str) -> None:
        """Write a file to be sourced. Only its owner may read it: it holds the password."""
        bin_directory = shlex.quote(str(Path(sys.executable).parent))
        lines = [f"# . .run/{name}    (the embedded controller, as {user})"]
        lines += [f"export {key}={shlex.quote(value)}" for key, value in controller.openrc(user).items()]
        lines += [f'case ":$PATH:" in *:{bin_directory}:*) ;; *) export PATH={bin_directory}:"$PATH" ;; esac']
        new = self.run / f"{name}.new"
        new.unlink(missing_ok=True)
        new.touch(mode=0o600)
        new.write_text("\n".join(lines) + "\n")
        if "SUDO_UID" in os.environ:
            os.chown(new, int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"]))
        new.replace(self.run / name)

    def _write_scripts(self, controller: Controller) -> None:
        """Write a script for each worker that runs a command on it, and one that starts and stops workers."""
        for path in (*self.run.glob("worker-*"), self.run / "supervisorctl"):
            path.unlink(missing_ok=True)
        control = shlex.join(controller.supervisor.ctl().split())
        scripts = {name: _ON_WORKER.format(name=name, control=control) for name in controller.workers}
        if scripts:
            scripts["supervisorctl"] = f'#!/bin/sh\nexec {control} "$@"\n'
        for name, text in scripts.items():
            path = self.run / name
            path.write_text(text)
            path.chmod(0o755)


#: nsenter leaves the directory otherwise
_ON_WORKER = """\
#!/bin/sh
# .run/{name} COMMAND...    run a command on this worker of the embedded controller, as root
pid=$({control} pid {name}) && [ "$pid" != 0 ] || {{ echo "{name} is down"; exit 1; }} >&2
# its settings are in its own /etc
unset SYSREG_CONF
[ $# -gt 0 ] || set -- sh
exec nsenter --target="$pid" --net --mount --wdns="$PWD" -- "$@"
"""


def main(arguments: list[str], installation: Installation = Installation()) -> int:
    """Do what the arguments say. Returns the exit status."""
    actions = {"up": installation.up, "down": installation.down, "remove": installation.remove}
    action, *rest = arguments or [""]
    if action == "up" and len(rest) == 1 and rest[0].isdecimal():
        actions["up"] = dataclasses.replace(installation, hosts=int(rest.pop())).up
    if action not in actions or rest:
        print("usage: python -m devstack up [HOSTS]|down|remove", file=sys.stderr)
        return 2
    try:
        actions[action]()
    except DevstackError as error:
        print(f"devstack: {error}", file=sys.stderr)
        return 1
    return 0


def _fingerprint(hosts: int) -> str:
    """A digest of all that decides what runs, so that a changed source is started."""
    sources = [CHECKOUT / "setup.cfg", *CHECKOUT.glob("sysreg_cli/**/*.py"), *CHECKOUT.glob("devstack/*.py")]
    digest = hashlib.sha256(str(hosts).encode())
    for source in sorted(sources):
        digest.update(bytes(source) + b"\0" + source.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
