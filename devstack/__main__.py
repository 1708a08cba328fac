"""``python -m devstack up|down``: the embedded controller on the usual ports, for people."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import sys
from pathlib import Path

from devstack import tour
from devstack.controller import Controller
from devstack.errors import DevstackError
from devstack.keystone import CHECKOUT
from devstack.site import USUAL_PORTS

RUN = CHECKOUT / ".run"
# Not in the checkout: the registry runs as docker-registry, who can't look into somebody's home directory.
ROOT = Path("/var/lib/sysreg-devstack") / hashlib.sha256(bytes(CHECKOUT)).hexdigest()[:8]


def main(arguments: list[str]) -> int:
    """Do what the one argument says; returns the exit status."""
    actions = {"up": up, "down": down, "remove": remove}
    if len(arguments) != 1 or arguments[0] not in actions:
        print("usage: python -m devstack up|down|remove", file=sys.stderr)
        return 2
    try:
        actions[arguments[0]]()
    except DevstackError as error:
        print(f"devstack: {error}", file=sys.stderr)
        return 1
    return 0


def up() -> None:
    """Start what does not run, write the openrc files, push the two images and show the main job."""
    if os.geteuid() != 0:
        raise DevstackError("the embedded controller needs root: run `make run` as root or with sudo")
    ROOT.mkdir(parents=True, exist_ok=True)
    with (ROOT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        controller = _controller()
        started_from = ROOT / "started-from"
        if started_from.exists() and started_from.read_text() != _fingerprint():
            controller.stop()  # the programs are not the ones that run
        controller.start()
        started_from.write_text(_fingerprint())
        _write_openrc(controller, "openrc", "admin")
        _write_openrc(controller, "openrc.testuser", "testuser")
        tour.show(controller, RUN)


def down() -> None:
    """Stop every process; images and users stay for the next start."""
    if ROOT.exists():
        _controller().stop()


def remove() -> None:
    """Stop, and remove images, users and keys."""
    if ROOT.exists():
        _controller().remove()


def _controller() -> Controller:
    return Controller(ROOT, ports=USUAL_PORTS, outlive=True)


def _fingerprint() -> str:
    """Of everything that decides what runs, so that a changed source is not left unstarted."""
    sources = [CHECKOUT / "setup.cfg", *CHECKOUT.glob("sysreg_cli/**/*.py"), *CHECKOUT.glob("devstack/*.py")]
    digest = hashlib.sha256()
    for source in sorted(sources):
        digest.update(bytes(source) + b"\0" + source.read_bytes())
    return digest.hexdigest()


def _write_openrc(controller: Controller, name: str, user: str) -> None:
    """A file to be sourced, for its reader only: it holds the password."""
    bin_directory = shlex.quote(str(Path(sys.executable).parent))
    lines = [f"# . .run/{name}    (the embedded controller, as {user})"]
    lines += [f"export {key}={shlex.quote(value)}" for key, value in controller.openrc(user).items()]
    lines += [f'case ":$PATH:" in *:{bin_directory}:*) ;; *) export PATH={bin_directory}:"$PATH" ;; esac']
    new = RUN / f"{name}.new"
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    new.write_text("\n".join(lines) + "\n")
    if "SUDO_UID" in os.environ:
        os.chown(new, int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"]))
    new.replace(RUN / name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
