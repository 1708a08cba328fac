"""Network and mount namespaces: for a controller whose registry.local is no loopback address, and for hosts.

docker skips TLS verification where the registry's name resolves to 127.0.0.0/8. Inside, /etc,
/usr/local/share and the state of dpkg's triggers are the machine's with a writable layer in memory above:
whatever a test installs there is gone with the namespace. Processes and all other files are the machine's.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from devstack.endpoints import HOST_NAME, NAMESPACE_ADDRESS

_LAYERS = """\
set -e
root=$1
shift
ip link set lo up
mkdir -p "$root/layers"
mount -t tmpfs -o mode=0755 layers "$root/layers"
for tree in etc usr/local/share var/lib/dpkg var/lib/ca-certificates-java; do
    [ -d "/$tree" ] || continue
    mkdir -p "$root/layers/$tree/upper" "$root/layers/$tree/work"
    mount -t overlay overlay -o "lowerdir=/$tree,upperdir=$root/layers/$tree/upper,workdir=$root/layers/$tree/work" "/$tree"
done
"""  # noqa: E501
_ADDRESS = f"""\
ip address add {NAMESPACE_ADDRESS}/32 dev lo
printf '127.0.0.1 localhost\\n{NAMESPACE_ADDRESS} {HOST_NAME}\\n' > /etc/hosts
"""
# Listens inside, and connects outside: in the namespace of the process that started the script. It ends with
# the process that the script becomes.
_LEAD_OUT = """\
setpriv --pdeathsig KILL -- systemd-socket-activate --listen={address}:{port} --setenv={mark} \\
    /usr/bin/nsenter --net=/proc/$PPID/ns/net /lib/systemd/systemd-socket-proxyd {target}:{port} &
"""
_HOLD = """\
printf '%s\\n' "$@" > /etc/hosts
rm -rf /etc/docker/certs.d /etc/containerd/certs.d
echo ready
exec sleep infinity
"""
_CLONE_NEWNET = 0x40000000
_UNSHARE = ("unshare", "--net", "--mount", "--propagation", "private", "--")


def enter_new(root: Path) -> list[str]:
    """Words to put before a command line to run it in a controller's new namespace.

    Its address is 198.51.100.10, on lo. The process stays the same one.
    """
    script = f'{_LAYERS}{_ADDRESS}exec "$@"\n'
    return [*_UNSHARE, "sh", "-c", script, "namespace", str(root)]


def enter_new_by(script: Path, root: Path) -> list[str]:
    """The same with what ``script_of_worker`` returned, in a file: supervisord takes no long commands."""
    return [*_UNSHARE, "sh", str(script), str(root)]


def script_of_worker(
    disk: Mapping[Path, Path], target: str, ports: Iterable[int], mark: str, then: str
) -> str:
    """The script that makes the namespaces of a worker of ``make run``.

    ``disk`` is what outlives them: path inside -> directory. Inside, 198.51.100.10 leads to these TCP ports
    of ``target`` outside, and nothing else leads out. So no interface and no firewall of the machine is
    changed. ``mark`` is put into the environment of the processes that do this. ``then`` is the rest of the
    script; it executes the program.
    """
    mounts = [f"mkdir -p {inside}\nmount --bind {outside} {inside}\n" for inside, outside in disk.items()]
    words = {"address": NAMESPACE_ADDRESS, "target": target, "mark": shlex.quote(mark)}
    leads = [_LEAD_OUT.format(port=port, **words) for port in ports]
    return "".join([_LAYERS, _ADDRESS, *mounts, *leads, then])


def hold(root: Path, names: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Make namespaces for a host, and return the process that holds them. It ends with the calling thread.

    ``names`` are what /etc/hosts says: name -> address. The host trusts no registry yet.
    """
    lines = [f"{address} {name}" for name, address in names.items()]
    process = subprocess.Popen(
        [
            *("setpriv", "--pdeathsig", "KILL", "--", *_UNSHARE),
            *("sh", "-c", _LAYERS + _HOLD, "namespace", str(root), *lines),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    with process.stdout:
        if process.stdout.readline() != b"ready\n":
            process.kill()
            process.wait()
            raise OSError(f"no namespace could be made for {root}")
    return process


def enter(pid: int) -> list[str]:
    """Words to put before a command line to run it in the namespaces of process ``pid``."""
    return ["nsenter", f"--target={pid}", "--net", "--mount", "--"]


@contextmanager
def entered_network(pid: int) -> Iterator[None]:
    """Move this thread into the network namespace of process ``pid``, and back in the end.

    The threads and programs that it starts meanwhile are there, too.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with (
        Path("/proc/thread-self/ns/net").open() as before,
        Path(f"/proc/{pid}/ns/net").open() as here,
    ):
        assert libc.setns(here.fileno(), _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            assert libc.setns(before.fileno(), _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
