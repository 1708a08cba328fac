"""A controller with a cluster, as the operator uses it, and workers that joined with the operator's files."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from devstack import bridge, images
from devstack.bridge import Machine
from devstack.commands import BIN, fake_clock
from devstack.controller import Controller
from devstack.endpoints import HOST_NAME, NAMESPACE_ADDRESS
from devstack.options import Options
from devstack.programs import AGENT
from devstack.supervisor import MARK
from devstack.waiting import wait_until
from sysreg_cli.cluster.etcd import EtcdStore
from sysreg_cli.cluster.joining import Asker, JoinAnswer, host_user, join_user
from sysreg_cli.cluster.keys import JoinPart, join_key
from sysreg_cli.cluster.membership import CredentialFiles
from sysreg_cli.cluster.port import Expected, Put, User
from sysreg_cli.cluster.records import decode, encode
from sysreg_cli.cluster.servers import Access
from sysreg_cli.settings.schema import AgentSettings
from tests import certificates as make
from tests.etcd_cluster import EtcdCluster
from tests.functional.worker.processes import WorkerProcess

#: an image on the bridge's controller, which everybody may pull
IMAGE = "public/pulled"
#: with DONT_FAKE_MONOTONIC, libfaketime 0.9.10 refuses Python's own sleep
_SLEEP = """\
import threading, time
time.sleep = lambda seconds: threading.Event().wait(seconds) and None
"""


class Site:
    """The controller and its workers. ``access`` is how a worker reaches etcd."""

    def __init__(self, controller: Controller, access: Access, root: Path) -> None:
        self.controller = controller
        self.root = root
        self.workers: dict[str, WorkerProcess] = {}
        self._access = access

    def system(self, *words: str, status: int = 0) -> str:
        """Run the command; return standard output, or standard error if it is to fail."""
        done = self.controller.system(*words)
        assert done.returncode == status, done.stdout + done.stderr
        if not status:
            assert done.stderr == ""
        return done.stderr if status else done.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self.system(*words, "-f", "json"))

    def states(self) -> dict[str, str]:
        return {row["host"]: row["state"] for row in self.json("registry-host-list")}

    def wait_for(self, host: str, state: str, seconds: float = 40) -> None:
        wait_until(lambda: self.states().get(host) == state, seconds, what=f"{host} is {state}", pause=0.5)

    def join(self, host: str, machine: Machine | None = None) -> WorkerProcess:
        """Add a host, and join as sysreg-deploy does, but with files of its own."""
        path = self.root / f"{host}.json"
        self.system("registry-host-add", host, "--file", str(path))
        assert path.stat().st_mode & 0o777 == 0o600
        invitation = json.loads(path.read_text())
        asker, store = Asker(host), EtcdStore(self._access_of(join_user(host), invitation["password"]))
        key = join_key(host, JoinPart.REQUEST)
        store.transact([Expected(key)], [Put(key, encode(asker.request))])
        entry = wait_until(lambda: store.get(join_key(host, JoinPart.ANSWER)), what="the controller answers")
        assert entry
        store.close()
        password = asker.open(decode(JoinAnswer, entry.value, entry.key))
        user = User(host_user(host), password)
        access = self._access_of(user.name, password)
        self.workers[host] = WorkerProcess(host, self.root / host, access, user, machine)
        return self.workers[host]

    def _access_of(self, user: str, password: str) -> Access:
        path = self.root / f"{user}.password"
        path.write_text(password)
        return dataclasses.replace(self._access, user=user, password_file=path)

    def certificate(self, name: str) -> str:
        """Return the path of a new certificate of a new CA."""
        root = make.authority(name)
        leaf = make.server(root, names=[HOST_NAME])
        path = self.root / f"{name}.pem"
        path.write_bytes(make.bundle(leaf, root))
        return str(path)

    def trusted(self, worker: WorkerProcess) -> list[bytes]:
        """What docker on a worker trusts."""
        directory = worker.docker / self.controller.address
        return sorted(path.read_bytes() for path in directory.glob("*.crt"))

    def install(self, name: str, *options: str, status: int = 0) -> str:
        words = ("certificate-install", "-m", "docker_registry", *options, self.certificate(name))
        return self.system(*words, status=status)

    def authorities(self, name: str, *authorities: make.Issued) -> str:
        path = self.root / f"{name}.pem"
        path.write_bytes(b"".join(one.pem for one in authorities))
        return str(path)

    def install_authorities(self, name: str, *options: str, status: int = 0) -> str:
        """Install the CA certificates of a file, or of a CA with this name."""
        path = self.root / f"{name}.pem"
        file = str(path) if path.exists() else self.authorities(name, make.authority(name))
        return self.system("certificate-install", "-m", "ssl_ca", *options, file, status=status)


@contextmanager
def site_on_a_bridge(etcd: EtcdCluster, root: Path, hosts: int, *, clocks: bool = False) -> Iterator[Site]:
    """Start a controller and so many workers, each a machine on the bridge of ``etcd``.

    With ``clocks``, the clocks of the agent and of each worker can be set: see ``set_clock``.
    """
    root.mkdir()
    options = Options(
        netns=True,
        settings={
            "cluster": _credential(etcd, root / "controller"),
            # with the usual command, the agent lets no connection be refused while the registry restarts
            "agent": {"restart_command": AgentSettings().restart_command},
        },
        environment={AGENT: {**_systemctl(root / "bin"), **(clock(root / "agent") if clocks else {})}},
    )
    with contextlib.ExitStack() as stack:
        if clocks:
            stack.callback(_remove_leftovers)
        controller = stack.enter_context(Controller.temporary(options))
        supervisor = controller.supervisor.pid()
        assert supervisor is not None
        bridge.attach(supervisor, "controller", NAMESPACE_ADDRESS)
        site = Site(controller, etcd.access(from_bridge=True), root)
        _push(site)
        for number in range(hosts):
            name, address = f"w{number}", f"198.51.100.{20 + number}"
            machine = Machine(root / "machines" / name, name, address, {HOST_NAME: NAMESPACE_ADDRESS})
            stack.callback(machine.close)
            worker = site.join(name, machine)
            stack.callback(worker.kill)
            if clocks:
                worker.environment.update(clock(root / name))
            worker.start()
        yield site


def set_clock(root: Path, program: str, offset: str) -> None:
    """Set the clock of the agent ("agent") or of a worker ahead: "+3h", "-1d", "+0"."""
    (root / program / "clock").write_text(f"{offset}\n")


def clock(directory: Path) -> Mapping[str, str]:
    """Return the environment of a program whose clock ``set_clock`` sets: the name of the directory."""
    directory.mkdir(exist_ok=True)
    (directory / "clock").write_text("+0\n")
    (directory / "sitecustomize.py").write_text(_SLEEP)
    # a machine's clock does not concern the time since its boot
    monotonic = {"DONT_FAKE_MONOTONIC": "1", "PYTHONPATH": str(directory)}
    return {**fake_clock(directory / "clock"), **monotonic}


def _remove_leftovers() -> None:
    """Remove what libfaketime keeps in memory for each process, of those that were killed."""
    for path in Path("/dev/shm").glob("*faketime_s*_*"):
        pid = path.name.rpartition("_")[2]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            path.unlink(missing_ok=True)


def _credential(etcd: EtcdCluster, directory: Path) -> dict[str, str]:
    """Write what the controller logs in to etcd with, and return the section [cluster]."""
    directory.mkdir()
    access, files = etcd.access(from_bridge=True), CredentialFiles(directory)
    for source, target in (
        (access.tls.ca, files.tls.ca),
        (access.tls.certificate, files.tls.certificate),
        (access.tls.key, files.tls.key),
        (access.password_file, files.password),
    ):
        target.write_bytes(source.read_bytes())
    endpoints = " ".join(map(str, access.endpoints))
    return {"endpoints": endpoints, "directory": str(directory), "host": "controller-0"}


def _systemctl(directory: Path) -> Mapping[str, str]:
    """Make a systemctl that asks the supervisor, and return the environment of a program that finds it."""
    directory.mkdir()
    program = directory / "systemctl"
    program.write_text(f'#!/bin/sh\nexec {BIN}/supervisorctl -c "${MARK}/supervisord.conf" "$@"\n')
    program.chmod(0o755)
    return {"PATH": f"{directory}:/usr/sbin:/usr/bin:/sbin:/bin"}


def _push(site: Site) -> None:
    """Push the image that workers pull."""
    layout = site.root / "image"
    images.single(seed="pulled").write_layout(layout)
    password = site.controller.passwords["admin"]
    done = site.controller.run(
        ["skopeo", "copy", f"--dest-creds=admin:{password}", f"oci:{layout}:latest",
         f"docker://{site.controller.address}/{IMAGE}:1"]
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
