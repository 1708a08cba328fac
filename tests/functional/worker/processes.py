"""Workers as processes: each is a real ``sysreg-host`` with directories of its own, on a real etcd."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from devstack.bridge import Machine
from devstack.waiting import wait_until
from sysreg_cli.cluster import writing
from sysreg_cli.cluster.etcd import EtcdStore
from sysreg_cli.cluster.judgement import HostJudgement, HostRecord, State, judge
from sysreg_cli.cluster.keys import CERTIFICATE, DESIRED, HOSTS, Part, host_key, parse_host_key
from sysreg_cli.cluster.membership import CredentialFiles
from sysreg_cli.cluster.port import Put, Rights, User
from sysreg_cli.cluster.records import Alive, DesiredCertificate, HostSpec, HostStatus, Role, decode, encode
from sysreg_cli.cluster.servers import Access
from sysreg_cli.cluster.users import EtcdAdministration
from tests import certificates as make
from tests.etcd_cluster import EtcdCluster

_ADMINISTRATORS = make.authority("the administrator's")
_PROGRAM = Path(sys.executable).with_name("sysreg-host")


class Fleet:
    """Several workers, and the controller's view of them."""

    def __init__(self, etcd: EtcdCluster, root: Path) -> None:
        self.etcd = etcd
        self.root = root
        self.store = EtcdStore(etcd.access())
        self.administration = EtcdAdministration(etcd.access())
        self.workers: dict[str, WorkerProcess] = {}

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_exception: object) -> None:
        for worker in self.workers.values():
            worker.kill()
        self.store.close()

    def add(self, name: str, machine: Machine | None = None) -> WorkerProcess:
        """Add a worker and start it."""
        user = User(f"host-{name}", secrets.token_hex(16))
        writes = [host_key(name, Part.STATUS), host_key(name, Part.ALIVE)]
        self.administration.put_user(user, Rights([DESIRED], writes))
        spec = encode(HostSpec(Role.WORKER, "2026-11-27T00:00:00+00:00"))
        self.store.transact([], [Put(host_key(name, Part.SPEC), spec)])
        access = self.etcd.access(user, from_bridge=machine is not None)
        worker = WorkerProcess(name, self.root / name, access, user, machine)
        self.workers[name] = worker
        worker.start()
        return worker

    def end_lease(self, name: str) -> None:
        """Let the lease of a host end now, as it does 15 s after the host went."""
        entry = self.store.get(host_key(name, Part.ALIVE))
        assert entry is not None
        self.store.revoke(entry.lease)
        self.wait_for(State.DOWN, [name])

    def publish(self, desired: DesiredCertificate) -> None:
        writing.put(self.store, CERTIFICATE, encode(desired), self.store.get(CERTIFICATE))

    def judgements(self) -> dict[str, HostJudgement]:
        """The state of each host, as the controller sees it."""
        desired: DesiredCertificate | None = None
        if entry := self.store.get(CERTIFICATE):
            desired = decode(DesiredCertificate, entry.value, entry.key)
        values: dict[str, dict[Part, bytes]] = {}
        for key, entry in self.store.list(HOSTS).entries.items():
            if place := parse_host_key(key):
                values.setdefault(place[0], {})[place[1]] = entry.value
        return {name: judge(desired, _record(name, parts)) for name, parts in values.items()}

    def wait_for(self, state: State, names: Sequence[str] = (), *, seconds: float = 40) -> None:
        """Wait until these hosts, or all, have this state."""

        def reached() -> bool:
            found = self.judgements()
            return all(found[name].state is state for name in names or self.workers)

        try:
            wait_until(reached, seconds, what=f"every host is {state}", pause=0.1)
        except AssertionError as error:
            for name, judgement in self.judgements().items():
                error.add_note(f"{name}: {judgement.state}: {judgement.reason}")
                error.add_note(self.workers[name].log()[-1500:])
            raise


def _record(name: str, parts: dict[Part, bytes]) -> HostRecord:
    status, alive = parts.get(Part.STATUS), parts.get(Part.ALIVE)
    return HostRecord(
        name,
        decode(HostSpec, parts[Part.SPEC], name),
        decode(HostStatus, status, name) if status else None,
        decode(Alive, alive, name) if alive else None,
    )


class WorkerProcess:
    """One worker. Its files are below ``root``. With a ``machine``, its trust is in /etc there."""

    def __init__(
        self, name: str, root: Path, access: Access, user: User, machine: Machine | None = None
    ) -> None:
        self.name = name
        self.root = root
        self.machine = machine
        docker, containerd = root / "docker", root / "containerd"
        if machine is not None:
            docker, containerd = Path("/etc/docker/certs.d"), Path("/etc/containerd/certs.d")
        self.docker, self.containerd = self.path(docker), self.path(containerd)
        self.credential = credential = CredentialFiles(root / "cluster")
        for directory in (credential.directory, root / "state", self.docker, self.containerd):
            directory.mkdir(parents=True, exist_ok=True)
        system, hooks, self.bundle = root / "system", root / "hooks", root / "ssl" / "ca-certificates.crt"
        for directory in (system, hooks, self.bundle.parent):
            directory.mkdir(exist_ok=True)
        (root / "ca-certificates.conf").write_text("")
        rebuild = (
            f"update-ca-certificates --localcertsdir {system} --etccertsdir {self.bundle.parent}"
            f" --hooksdir {hooks} --certsconf {root / 'ca-certificates.conf'}"
        )
        # without any CA, Debian's command would leave the bundle as it is
        (system / "administrator.crt").write_bytes(_ADMINISTRATORS.pem)
        self.system = system
        pairs = zip(
            (access.tls.ca, access.tls.certificate, access.tls.key),
            (credential.tls.ca, credential.tls.certificate, credential.tls.key),
            strict=True,
        )
        for source, target in pairs:
            target.write_bytes(source.read_bytes())
        credential.password.write_text(user.password)
        self.config = root / "sysreg.conf"
        self.config.write_text(
            f"[cluster]\nendpoints = {' '.join(map(str, access.endpoints))}\nhost = {name}\n"
            f"user = {user.name}\ndirectory = {credential.directory}\n"
            f"[paths]\nstate = {root / 'state'}\ndocker_trust = {docker}\ncontainerd_trust = {containerd}\n"
            f"system_trust = {system}\nsystem_trust_command = {rebuild}\n"
        )
        #: for each start, such as that of a clock that can be set
        self.environment: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def path(self, inside: Path) -> Path:
        """The path by which this process reaches a path of the worker."""
        return self.machine.path(str(inside)) if self.machine else inside

    def start(self, *prefix: str, **environment: str) -> None:
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL", "--"),
                    *(self.machine.prefix if self.machine else ()),
                    *prefix,
                    _PROGRAM,
                ],
                env={**os.environ, "SYSREG_CONF": str(self.config), **self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        """The process id. It may have ended."""
        assert self._process is not None
        return self._process.pid

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self.pid)

    def signal(self, which: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(which)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def terminate(self) -> int:
        """Stop it as systemd does. Return its exit status."""
        assert self._process is not None
        wait_until(self._catches_sigterm, what=f"{self.name} has started, or has ended")
        self._process.terminate()
        return self._process.wait(timeout=30)

    def _catches_sigterm(self) -> bool:
        """Whether it ends by itself. While it starts, the signal would kill it."""
        assert self._process is not None
        if self._process.poll() is not None:
            return True
        status = Path(f"/proc/{self.pid}/status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        return bool(caught & 1 << (signal.SIGTERM - 1))

    def log(self) -> str:
        return (self.root / "log").read_text(errors="replace")
