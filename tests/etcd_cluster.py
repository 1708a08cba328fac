"""A cluster of three etcd servers with TLS and passwords, in a network namespace of its own.

Nothing outside can reach it, and what a test does to its connections concerns nothing else. The thread of the
test enters the namespace with ``inside``, and so do the threads and programs that it starts there. Machines
on the bridge of that namespace (devstack/bridge.py) reach the servers, too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from devstack import bridge, etcd, namespace, temporary
from devstack.waiting import wait_until
from sysreg_cli.addresses import HostPort
from sysreg_cli.cluster.gateway import TlsFiles, encode
from sysreg_cli.cluster.port import User
from sysreg_cli.cluster.servers import Access, Limits, Servers
from sysreg_cli.cluster.users import enable_passwords
from tests import certificates as make

#: Debian 12 has etcd 3.4, Debian 13 has 3.5
RELEASES = ("bookworm", "trixie")
#: seconds; the servers' progress interval is a third of ``silence``
LIMITS = Limits(call=1.0, silence=1.2)
#: for tests that no fault delays, on a busy machine
PATIENT = Limits(call=20.0, silence=20.0)

_CLIENT, _PEER, _METRICS = 2379, 2380, 2381
#: each server has a group of its own
_GROUPS = 9100


class EtcdCluster:
    """Three servers, numbered from 0. Make it with ``running``."""

    def __init__(self, release: str, directory: Path, flags: Sequence[str]) -> None:
        self.programs = etcd.programs(release)
        self.directory = directory
        self.flags = flags
        self.token = "first"
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self._namespace = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", "unshare", "--net", "sh", "-c", _HOLD],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self._namespace.stdout is not None
        assert self._namespace.stdout.readline() == b"up\n"
        self._write_certificates()
        (directory / "root.password").write_text("the password of root\n")

    @classmethod
    @contextmanager
    def running(cls, release: str, *flags: str) -> Iterator[EtcdCluster]:
        """Start it with these flags in addition, and enable passwords."""
        with temporary.directory("etcd-") as directory:
            cluster = cls(release, directory, flags)
            try:
                with cluster.inside():
                    bridge.make(*map(_outside, range(3)))
                    for number in range(3):
                        cluster.start(number)
                    cluster.wait_ready()
                    enable_passwords(cluster.access(), PATIENT)
                    yield cluster
            finally:
                cluster.close()

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Move this thread into the namespace, and back in the end."""
        with namespace.entered_network(self._namespace.pid):
            yield

    def access(
        self, user: User | None = None, *, numbers: Sequence[int] = (0, 1, 2), from_bridge: bool = False
    ) -> Access:
        """Return the access of a user, root by default, to these servers. ``from_bridge``: on a machine."""
        name = user.name if user else "root"
        password = self.directory / f"{name}.password"
        if user:
            password.write_text(user.password)
        tls = TlsFiles(
            self.directory / "ca.crt", self.directory / "client.crt", self.directory / "client.key"
        )
        address = _outside if from_bridge else _address
        return Access(tuple(HostPort(address(number), _CLIENT) for number in numbers), tls, name, password)

    def start(self, number: int) -> None:
        """Start a server. It goes on with its data."""
        at = _address(number)
        flags = {
            "name": f"m{number}",
            "data-dir": self.data(number),
            "listen-client-urls": f"https://{at}:{_CLIENT},https://{_outside(number)}:{_CLIENT}",
            "advertise-client-urls": f"https://{at}:{_CLIENT}",
            "listen-peer-urls": f"https://{at}:{_PEER}",
            "initial-advertise-peer-urls": f"https://{at}:{_PEER}",
            "initial-cluster": self.members,
            "initial-cluster-token": self.token,
            "listen-metrics-urls": f"http://{at}:{_METRICS}",
            **{f"{who}cert-file": self.directory / "server.crt" for who in ("", "peer-")},
            **{f"{who}key-file": self.directory / "server.key" for who in ("", "peer-")},
            **{f"{who}trusted-ca-file": self.directory / "ca.crt" for who in ("", "peer-")},
            "client-cert-auth": "true",
            "peer-client-cert-auth": "true",
            "bcrypt-cost": "4",
            "backend-batch-limit": "1",  # see sysreg_cli/deploy/etcd.py
            "experimental-watch-progress-notify-interval": f"{LIMITS.silence / 3:g}s",
            "logger": "zap",
            "log-level": "warn",
        }
        with (self.directory / f"m{number}.log").open("ab") as log:
            self.processes[number] = subprocess.Popen(
                [
                    # the group is what ``cut_off`` knows its packets by
                    *(
                        "setpriv",
                        "--pdeathsig",
                        "KILL",
                        f"--regid={_GROUPS + number}",
                        "--clear-groups",
                        "--",
                    ),
                    self.programs / "etcd",
                    *(f"--{name}={value}" for name, value in flags.items()),
                    *self.flags,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def members(self) -> str:
        """The servers in the form of the flag ``initial-cluster``."""
        return ",".join(f"m{number}=https://{_address(number)}:{_PEER}" for number in range(3))

    def data(self, number: int) -> Path:
        return self.directory / f"m{number}.{self.token}"

    def wait_ready(self, numbers: Sequence[int] = (0, 1, 2)) -> None:
        """Wait until these servers have a leader."""
        for number in numbers:
            wait_until(lambda n=number: self._is_healthy(n), 60, what=f"etcd server {number} is ready")  # type: ignore[misc]

    def signal(self, number: int, which: signal.Signals) -> None:
        """Send a signal to a server. After SIGKILL it has ended, after SIGSTOP its threads are stopped."""
        process = self.processes[number]
        process.send_signal(which)
        if which == signal.SIGKILL:
            process.wait()
        if which == signal.SIGSTOP:
            wait_until(lambda: _is_stopped(process.pid), what=f"etcd server {number} is stopped", pause=0.001)

    def leader(self) -> int:
        """Return the number of the leader."""
        return wait_until(lambda: [n for n in range(3) if _metric(n, "etcd_server_is_leader") == 1], 60)[0]

    def cut(self) -> None:
        """Break every connection of clients, as a reset does."""
        for side in ("sport", "dport"):
            subprocess.run(["ss", "-K", side, f"= :{_CLIENT}"], capture_output=True, check=False)

    @contextmanager
    def losing_packets(self) -> Iterator[None]:
        """Drop every packet of this process's connections to the servers. New connections work."""
        shown = subprocess.run(
            ["ss", "-Htnp", "state", "established", "dport", f"= :{_CLIENT}"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        ours = [line.split()[2] for line in shown.splitlines() if f"pid={os.getpid()}," in line]
        assert ours, shown
        ports = ", ".join(place.rpartition(":")[2] for place in ours)
        rules = (
            "table inet lost { chain lost { type filter hook input priority 0; "
            f"tcp sport {{ {ports} }} drop; tcp dport {{ {ports} }} drop; }}; }}"
        )
        subprocess.run(["nft", rules], check=True)
        try:
            yield
        finally:
            subprocess.run(["nft", "delete table inet lost"], check=True)

    @contextmanager
    def cut_off(self, number: int) -> Iterator[None]:
        """Drop every packet to and from a server, of clients and of the other servers."""
        to = f"ip daddr {{ {_address(number)}, {_outside(number)} }} tcp dport {{ {_CLIENT}, {_PEER} }} drop"
        rules = (
            f"table inet off{number} {{ chain in {{ type filter hook input priority 0; {to}; }}; "
            f"chain out {{ type filter hook output priority 0; meta skgid {_GROUPS + number} drop; }}; }}"
        )
        subprocess.run(["nft", rules], check=True)
        try:
            yield
        finally:
            subprocess.run(["nft", f"delete table inet off{number}"], check=True)

    def compact(self) -> None:
        """Let the servers forget all revisions but the present one."""
        servers = Servers(self.access(), PATIENT)
        revision = servers.call("kv/range", {"key": encode("none")}, "read")["header"]["revision"]
        servers.call("kv/compaction", {"revision": revision}, "compact")
        servers.close()

    def etcdctl(self, *words: str | Path, number: int = 0) -> str:
        """Call etcdctl as root. It has no other way to end than a time limit if TLS fails."""
        access = self.access()
        flags = [f"--cacert={access.tls.ca}", f"--cert={access.tls.certificate}", f"--key={access.tls.key}"]
        endpoint = f"--endpoints=https://{_address(number)}:{_CLIENT}"
        done = subprocess.run(
            [self.programs / "etcdctl", *flags, endpoint, f"--user=root:{access.password()}", *words],
            env={**os.environ, "ETCDCTL_API": "3"}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def restore(self, snapshot: Path, token: str) -> None:
        """Replace the data of all servers by a snapshot, as an operator does, and start them."""
        for number in self.processes:
            self.signal(number, signal.SIGKILL)
        self.token = token
        tool = self.programs / "etcdutl"
        tool = tool if tool.exists() else self.programs / "etcdctl"
        for number in range(3):
            data = self.data(number)
            subprocess.run(
                [
                    *(tool, "snapshot", "restore", snapshot, f"--name=m{number}", f"--data-dir={data}.new"),
                    *(f"--initial-cluster={self.members}", f"--initial-cluster-token={token}"),
                    f"--initial-advertise-peer-urls=https://{_address(number)}:{_PEER}",
                ],
                env={**os.environ, "ETCDCTL_API": "3"}, capture_output=True, check=True,
            )  # fmt: skip
            subprocess.run(["rm", "-rf", data], check=True)
            data.with_name(f"{data.name}.new").rename(data)
            self.start(number)
        self.wait_ready()

    def log(self, number: int) -> str:
        return (self.directory / f"m{number}.log").read_text(errors="replace")

    def close(self) -> None:
        for process in (*self.processes.values(), self._namespace):
            process.kill()
            process.wait()
        assert self._namespace.stdout is not None
        self._namespace.stdout.close()

    def _is_healthy(self, number: int) -> bool:
        status = self.processes[number].poll()
        assert status is None, f"etcd server {number} has ended with {status}: {self.log(number)[-2000:]}"
        return bool(json.loads(_http(number, "health"))["health"] == "true")

    def _write_certificates(self) -> None:
        authority = make.authority("etcd of a test")
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        (self.directory / "ca.crt").write_bytes(authority.pem)
        for name, usages in (("server", both), ("client", both[1:])):
            addresses = [form(number) for number in range(3) for form in (_address, _outside)]
            names = addresses if name == "server" else []
            issued = make.issue("", authority, names=names, extended=usages, subject_name=_NAMELESS)
            (self.directory / f"{name}.crt").write_bytes(issued.pem)
            (self.directory / f"{name}.key").write_bytes(issued.key_pem)


# The common name of a certificate would be the user, and etcd's gateway refuses such certificates.
_NAMELESS = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "sysreg")])
#: Runs in the namespace for as long as the cluster. It needs no more than loopback, with an address a server.
_HOLD = "ip link set lo up && echo up && exec sleep infinity"


def _address(number: int) -> str:
    return f"127.0.0.{number + 1}"


def _outside(number: int) -> str:
    """The address of a server for machines on the bridge."""
    return f"198.51.100.{number + 1}"


def _http(number: int, path: str) -> str:
    with urllib.request.urlopen(f"http://{_address(number)}:{_METRICS}/{path}", timeout=2) as response:
        return str(response.read().decode())


def _metric(number: int, name: str) -> float | None:
    try:
        shown = _http(number, "metrics")
    except OSError:
        return None
    return next((float(line.split()[1]) for line in shown.splitlines() if line.startswith(f"{name} ")), None)


def _is_stopped(pid: int) -> bool:
    """Whether each thread of a process is stopped: see proc(5), /proc/pid/stat."""
    threads = Path(f"/proc/{pid}/task").glob("*/stat")
    return all(path.read_text().rpartition(")")[2].split()[0] == "T" for path in threads)
