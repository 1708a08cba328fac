"""A controller with a systemd of its own: this host's files below, an overlay above, own namespaces.

``Machine.boot()`` takes about a second (docs/behaviour.rst, "A booted controller"). What the machine
writes goes to a directory in memory, which outlives a power-off and is the disk of the next boot;
``Machine(lower=[...])`` stacks a machine on the disks of others, so that what several tests
need is installed once. The last of these is a whole system: this host's, or one of debian_root.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ADDRESS = "198.51.100.10"
MEMORY = Path("/dev/shm")  # an overlay's upper directory must not stand on its lower one
# The last is where the wheel is installed. sysreg-deploy makes links to its programs in /usr/local/bin.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/sysreg/bin"

# marks a disk that _prepare_disk has written to
_PREPARED = "etc/systemd/journald.conf.d/tests.conf"
# What does not work in a container, or only costs time.
_MASKED = [
    "systemd-udevd.service",
    "systemd-udevd-kernel.socket",
    "systemd-udevd-control.socket",
    "systemd-udev-trigger.service",
    "systemd-modules-load.service",
    "systemd-sysctl.service",
    "systemd-timesyncd.service",
    "systemd-remount-fs.service",
    "systemd-firstboot.service",
    "systemd-random-seed.service",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-machine-id-commit.service",
    "systemd-pstore.service",
    "getty.target",
    "console-getty.service",
    "systemd-logind.service",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "modprobe@.service",
    "ldconfig.service",
]


class CommandFailed(AssertionError):
    """A command inside a machine ended with another status than was asked for."""


def cannot_boot() -> str:
    """Why machines cannot be booted here, or an empty string."""
    if os.geteuid() != 0:
        return "booting a systemd needs root"
    if _cgroup2() is None:
        return "booting a systemd needs a cgroup2 mount"
    for program in ("unshare", "nsenter", "ip", "systemd-run"):
        if shutil.which(program) is None:
            return f"booting a systemd needs {program}"
    if not MEMORY.is_dir():
        return f"booting a systemd needs a file system in memory at {MEMORY}"
    probe = subprocess.run(
        ["unshare", "--mount", "--pid", "--net", "--fork", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if probe.returncode == 0 else f"booting a systemd needs mounts: {probe.stderr.strip()}"


def _cgroup2() -> Path | None:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, target, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(target)
    return None


def _whiteout(path: Path) -> None:
    """Mark a file of the lower layers as removed."""
    os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))


class Machine:
    """One machine. ``directory`` holds its disk (``upper``) and ``share``, which it sees as /run/share."""

    def __init__(self, *, lower: Sequence[Path] = (Path("/"),)) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="sysreg-machine-", dir=MEMORY))
        self.directory.chmod(0o755)
        self.lower = lower
        for name in ("upper", "work", "root", "share"):
            (self.directory / name).mkdir(mode=0o755)
        self._unshare: subprocess.Popen[bytes] | None = None
        self._init = 0
        if not any((path / _PREPARED).exists() for path in lower):
            self._prepare_disk()

    @property
    def disk(self) -> Path:
        """What this machine has written: the ``lower`` of machines that start from it."""
        return self.directory / "upper"

    @property
    def share(self) -> Path:
        """The machine's /run/share."""
        return self.directory / "share"

    @property
    def init(self) -> int:
        """The process of the machine's systemd, while it is booted."""
        return self._init

    def _prepare_disk(self) -> None:
        """Write what makes the copy of this host a machine of its own, before its first boot."""
        base = self.lower[-1]
        etc = self.disk / "etc"
        systemd = etc / "systemd/system"
        for name in ("multi-user.target.wants", "timers.target.wants", "sockets.target.wants"):
            (systemd / name).mkdir(parents=True)
            os.setxattr(systemd / name, "trusted.overlay.opaque", b"y")
        for unit in _MASKED:
            (systemd / unit).symlink_to("/dev/null")
        # Debian enables a service when it is installed. So sysreg-deploy finds this one enabled.
        registry = Path("/lib/systemd/system/docker-registry.service")
        if (base / registry.relative_to("/")).exists():
            (systemd / "multi-user.target.wants" / registry.name).symlink_to(registry)
        for name in (
            "passwd",
            "group",
            "shadow",
            "gshadow",
        ):  # without the accounts that an embedded controller may have made
            shutil.copy2(base / "etc" / name, etc / name)
            lines = (etc / name).read_text().splitlines(keepends=True)
            (etc / name).write_text("".join(line for line in lines if not line.startswith("sysreg")))
        # hides what embedded controllers do on this host meanwhile
        (self.disk / "var/lib").mkdir(parents=True)
        _whiteout(self.disk / "var/lib/sysreg-devstack")
        # Hides these directories of the host, which embedded controllers change meanwhile, except two files.
        for name in ("docker/registry/config.yml", "containerd/config.toml"):
            (etc / name).parent.mkdir(parents=True, exist_ok=True)
            os.setxattr(etc / name.split("/")[0], "trusted.overlay.opaque", b"y")
            if (base / "etc" / name).is_file():
                shutil.copy2(base / "etc" / name, etc / name)
        (etc / "docker/daemon.json").write_text('{"bridge": "none", "iptables": false}\n')
        (etc / "machine-id").write_text("")
        (etc / "fstab").write_text("")
        (etc / "hostname").write_text("controller-0\n")
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n{ADDRESS} controller-0 keystone.local\n")
        (etc / "resolv.conf").write_text("")
        (etc / "systemd/journald.conf.d").mkdir()
        (self.disk / _PREPARED).write_text("[Journal]\nStorage=persistent\nRateLimitIntervalSec=0\n")
        sbin = self.disk / "usr/sbin"
        sbin.mkdir(parents=True)
        _whiteout(sbin / "policy-rc.d")

    def boot(self) -> Machine:
        """Start the machine's systemd, and wait until it has started all its units."""
        assert self._unshare is None, "it is running"
        mount = _cgroup2()
        assert mount is not None
        self._cgroup = mount / self.directory.name
        self._cgroup.mkdir(exist_ok=True)
        lower = ":".join(str(path) for path in self.lower)
        # the machine ends with the test run, also if that is killed
        join = 'echo $$ > "$0/cgroup.procs"; exec setpriv --pdeathsig KILL "$@"'
        namespaces = [
            "--mount",
            "--propagation",
            "private",
            "--pid",
            "--fork",
            "--kill-child",
            "--uts",
            "--ipc",
            "--cgroup",
            "--net",
        ]
        self._unshare = subprocess.Popen(
            [
                "sh",
                "-c",
                join,
                str(self._cgroup),
                "unshare",
                *namespaces,
                str(Path(__file__).with_name("inside.sh")),
                lower,
                str(self.directory),
            ],
            stdin=subprocess.DEVNULL,
            stdout=(self.directory / "console").open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            self.wait_until(self._booted, "systemd has booted", 60)
        except BaseException:
            self.power_cut()
            raise
        return self

    def _booted(self) -> bool:
        assert self._unshare is not None
        if self._unshare.poll() is not None:
            raise AssertionError("the machine died: " + (self.directory / "console").read_text())
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children").read_text().split()
        if not children:
            return False
        self._init = int(children[0])
        if not Path(f"/proc/{self._init}/comm").read_text().startswith("systemd"):
            return False
        state = subprocess.run(
            [*self._enter(), "systemctl", "is-system-running", "--wait"],
            capture_output=True,
            text=True,
            check=False,
        )
        return state.stdout.strip() in ("running", "degraded")

    def _enter(self) -> list[str]:
        return [
            "nsenter",
            "-t",
            str(self._init),
            *["-m", "-p", "-u", "-i", "-n", "-C", "-r", "-w"],
            "env",
            "-i",
            f"PATH={PATH}",
        ]

    def popen(
        self, *command: str, environ: dict[str, str] | None = None, user: str = "", **options: Any
    ) -> subprocess.Popen[str]:
        """Start a command as a unit of the machine. The process has the exit status of the command."""
        run = ["systemd-run", "--pipe", "--wait", "--quiet", "--collect"]
        variables = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", **(environ or {})}
        run += [f"--setenv={name}={value}" for name, value in variables.items()]
        if user:
            run.append(f"--uid={user}")
        return subprocess.Popen(
            [*self._enter(), *run, "--", *command],
            stdin=options.pop("stdin", subprocess.DEVNULL),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def run(
        self,
        *command: str,
        status: int | None = 0,
        environ: dict[str, str] | None = None,
        user: str = "",
        stdin: str | None = None,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end. Raises CommandFailed unless it exits with ``status``; None allows any."""
        process = self.popen(
            *command,
            environ=environ,
            user=user,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        )
        try:
            out, err = process.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise CommandFailed(f"{' '.join(command)}: no end within {timeout} s\n{out}{err}") from None
        if status is not None and process.returncode != status:
            output = f"{out[-5000:]}{err[-5000:]}"
            raise CommandFailed(f"{' '.join(command)}: exit {process.returncode}, not {status}\n{output}")
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def shell(
        self, script: str, *, status: int | None = 0, timeout: float = 60, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a bash script that stops at its first failure."""
        return self.run("bash", "-euo", "pipefail", "-c", script, status=status, timeout=timeout, **options)

    def file(self, path: str) -> Path:
        """The path by which this process reaches a path inside the machine."""
        return Path(f"/proc/{self._init}/root") / path.lstrip("/")

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit).stdout.strip()

    def journal(self, unit: str) -> str:
        """The messages of a unit since the boot."""
        return self.run("journalctl", "-b", "--no-pager", "-o", "cat", "-u", unit).stdout

    def json(self, *command: str, **options: Any) -> Any:
        """Run a command, and parse its output as JSON."""
        return json.loads(self.run(*command, **options).stdout)

    @staticmethod
    def wait_until(condition: Callable[[], object], what: str, seconds: float) -> float:
        """Wait for a condition. Returns how many seconds it took. Raises AssertionError after ``seconds``."""
        start = time.monotonic()
        while not condition():
            assert time.monotonic() - start < seconds, f"not within {seconds} s: {what}"
            time.sleep(0.05)
        return time.monotonic() - start

    def power_off(self) -> None:
        """Shut down in order. The disk stays."""
        assert self._unshare is not None
        subprocess.run([*self._enter(), "systemctl", "poweroff"], capture_output=True, check=True)
        try:
            self._unshare.wait(60)
        finally:
            self.power_cut()

    def power_cut(self) -> None:
        """Kill all processes at once. The disk stays."""
        if self._unshare is None:
            return
        self._unshare.kill()  # with --kill-child: then systemd ends, and all its processes with it
        self._unshare.wait()
        self._unshare = None
        self._remove_cgroups()

    def _remove_cgroups(self) -> None:
        def remove() -> bool:
            kill = self._cgroup / "cgroup.kill"
            if kill.exists():
                kill.write_text("1")
            for path, _, _ in os.walk(self._cgroup, topdown=False):
                try:
                    Path(path).rmdir()
                except OSError:
                    return False
            return True

        self.wait_until(remove, "the machine's processes are gone", 20)

    def close(self) -> None:
        """Kill all processes, and remove the disk."""
        self.power_cut()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def sweep_leftovers() -> None:
    """Remove the disks of machines whose test run was killed.

    Every process of a run sweeps, and other runs close their machines meanwhile. So any entry may vanish.
    """
    mount = _cgroup2()
    assert mount is not None
    for directory in MEMORY.glob("sysreg-machine-*"):
        cgroup = mount / directory.name
        with contextlib.suppress(FileNotFoundError):
            # a young one without processes may belong to a run that has not booted it yet
            if time.time() - directory.stat().st_mtime > 3600 and not _has_processes(cgroup):
                shutil.rmtree(directory, ignore_errors=True)
                for path, _, _ in os.walk(cgroup, topdown=False):
                    Path(path).rmdir()


def _has_processes(cgroup: Path) -> bool:
    for path, _, _ in os.walk(cgroup):
        try:
            if (Path(path) / "cgroup.procs").read_text().strip():
                return True
        except OSError:  # the group was removed meanwhile; then it has none
            continue
    return False
