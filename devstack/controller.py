"""One embedded controller: its processes, and what a test wants to do with them."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from devstack import hosts, keystone, namespace, ports, programs, registry, users
from devstack.client import IndependentClient
from devstack.errors import DevstackError
from devstack.programs import AGENT, BIN, KEYSTONE, REGISTRY, TOKEN_SERVER
from devstack.site import Site
from devstack.waiting import NotInTime, wait_until

_TRUST = Path("/etc/docker/certs.d")
_MEMORY, _DISK = Path("/dev/shm"), Path("/var/tmp")
_ROOMY = 4 << 30  # a container's usual 64 MiB do not hold one controller
_PREFIX = "sysreg-controller-"
_OWNED = "owned"  # locked by the process that uses the temporary controller


class Controller(Site):
    """Keystone, docker-registry, token server and agent of our own, with all their files below ``root``.

    ``root`` must be reachable for the user docker-registry, so below no 0700 directory.

    - ``ports``: keystone, registry, token_server, agent, debug -> fixed port; free ones by default.
    - ``settings``: changes of sysreg.conf, section -> key -> value.
    - ``registry``: changes of the registry's config.yml, deep; None takes a key away.
    - ``keystone``: changes of keystone.conf, section -> key -> value.
    - ``environment``: program -> variables laid over its environment.
    - ``programs``: which to run; all by default.
    - ``netns``: in namespaces of its own, on 198.51.100.10 and the usual ports.
    - ``fake_clock``: ``set_clock`` moves the time of Keystone, token server and agent.
    - ``outlive``: it stays when the process that started it ends.
    """

    def __init__(
        self,
        root: Path,
        *,
        ports: Mapping[str, int] | None = None,
        settings: Mapping[str, Mapping[str, str]] | None = None,
        registry: Mapping[str, Any] | None = None,
        keystone: Mapping[str, Mapping[str, str]] | None = None,
        environment: Mapping[str, Mapping[str, str]] | None = None,
        programs: Sequence[str] = (KEYSTONE, REGISTRY, TOKEN_SERVER, AGENT),
        netns: bool = False,
        fake_clock: bool = False,
        outlive: bool = False,
    ) -> None:
        super().__init__(
            root, ports=ports, settings=settings, registry=registry, keystone=keystone, netns=netns
        )
        self.programs = list(programs)
        self._environment = environment or {}
        self._fake_clock = fake_clock
        self._outlive = outlive
        self._pid: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextlib.contextmanager
    def temporary(cls, **options: Any) -> Iterator[Controller]:
        """A started controller in a directory of its own, which is stopped and removed in the end."""
        _sweep()
        root = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=temporary_directory()))
        root.chmod(0o755)
        controller = cls(root, **options)
        with (root / "new").open("w") as owned:
            fcntl.flock(owned, fcntl.LOCK_EX)
            (root / "new").rename(root / _OWNED)  # never there without its lock: see _sweep
            try:
                controller.start()
                yield controller
            finally:
                controller.remove()

    # Names and addresses

    @property
    def trust_directory(self) -> Path:
        """/etc/docker/certs.d/<address>: where docker and skopeo look, in the controller's own namespace."""
        return self.path(_TRUST / self.address)

    def path(self, inside: Path) -> Path:
        """How a path inside the controller's mount namespace is reached from here."""
        return Path(f"/proc/{self._pid}/root{inside}") if self.netns else inside

    # Life

    def start(self) -> None:
        """Start what does not run yet, and return when every port answers as this controller's process.

        Raises DevstackError: not root, a port that is taken (and by whom), a program that does not come up
        (with the end of its log).
        """
        _check_root()
        os.umask(0o022)  # the registry's user has to reach what it serves
        if self._running():
            self._start_programs()
        else:
            self._reap()
            self.lay_down()
            self.set_clock("+0")
            described = programs.describe(self, self._environment, fake_clock=self._fake_clock)
            self.supervisor.write_config(one for one in described if one.name in self.programs)
            if not self.netns:
                hosts.make_resolvable()
                self._check_ports()
                self._trust()
            self._spawn()
            if self.netns:
                self._trust()
        self.wait_ready()

    def stop(self) -> None:
        """Stop every process of this controller, also after a crash of its supervisor; its data stay."""
        if self._running():
            with contextlib.suppress(OSError):
                self.supervisor.call("stopAllProcesses", False)  # all at once; shutdown alone: one by one
                self.supervisor.call("shutdown")
            with contextlib.suppress(NotInTime):
                wait_until(lambda: not self.supervisor.marked(), 30, what="controller stops")
        self._reap()
        if self._process is not None:
            self._process.wait(timeout=10)
            self._process = None
        self._pid = None
        if not self.netns and "registry" in self.ports:
            shutil.rmtree(_TRUST / self.address, ignore_errors=True)
        for left in ("supervisor.sock", "supervisord.pid", "agent.sock"):
            (self.root / "run" / left).unlink(missing_ok=True)

    def remove(self) -> None:
        """Stop, and remove every file; what loses all it has needs no time to end well."""
        # supervisord first: it would start anew what is killed
        for pid in [self.supervisor.pid(), *sorted(self.supervisor.marked())]:
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.stop()
        shutil.rmtree(self.root, ignore_errors=True)

    def wait_ready(self, deadline: float = 180.0) -> None:
        """Wait until every program answers on its port, and the port is held by a process of ours."""
        for name in self.programs:
            try:
                wait_until(functools.partial(self._answers, name), deadline, what=f"{name} answers")
            except (NotInTime, DevstackError) as error:
                raise DevstackError(f"{error}\n{self.log(name)[-3000:]}") from None

    # Programs

    def restart(self, program: str) -> None:
        """Restart one program and wait until it answers again."""
        self.stop_program(program)
        self.start_program(program)

    def stop_program(self, program: str) -> None:
        self.supervisor.call("stopProcess", program)

    def start_program(self, program: str) -> None:
        self.supervisor.call("startProcess", program, False)
        self.wait_ready()

    def signal(self, program: str, number: int) -> None:
        """Send a signal, such as signal.SIGHUP, to one program."""
        self.supervisor.call("signalProcess", program, str(int(number)))

    def pid(self, program: str) -> int:
        """The process id of one program, 0 if it does not run."""
        return int(self.supervisor.call("getProcessInfo", program)["pid"])

    def log(self, program: str) -> str:
        """What one program has written so far, on stdout and stderr."""
        try:
            return (self.root / "log" / f"{program}.log").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    # Use

    def environ(self, user: str = "admin") -> dict[str, str]:
        """The whole environment of a person who sourced the openrc of ``user``; HOME is the user's own."""
        home = self.root / "home" / user
        home.mkdir(parents=True, exist_ok=True)
        return {
            "PATH": f"{BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(home),
            "LANG": "C.UTF-8",
            **self.openrc(user),
        }

    def openrc(self, user: str = "admin") -> dict[str, str]:
        """The OS_* and SYSREG_* variables of ``user``."""
        return {
            "OS_AUTH_URL": self.auth_url,
            "OS_USERNAME": user,
            "OS_PASSWORD": self.passwords[user],
            "OS_PROJECT_NAME": users.project_of(user),
            "OS_USER_DOMAIN_NAME": "Default",
            "OS_PROJECT_DOMAIN_NAME": "Default",
            "OS_REGION_NAME": keystone.REGION,
            "OS_INTERFACE": "internal",
            "OS_IDENTITY_API_VERSION": "3",
            "SYSREG_CONF": str(self.settings),
            "SYSREG_REGISTRY": self.address,
            "SYSREG_REGISTRY_CA": str(self.ca_file),
            "SYSREG_AGENT": str(self.agent_socket),
        }

    def run(
        self,
        argv: Sequence[str],
        *,
        user: str = "admin",
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run a client where the controller is (in its namespaces), as ``user``; output is captured as text.

        ``env`` is laid over ``environ(user)``; ``options`` go to subprocess.run, whose timeout is 120 s here.
        """
        settings = {"capture_output": True, "text": True, "timeout": 120, "stdin": subprocess.DEVNULL}
        if "input" in options:
            del settings["stdin"]
        return subprocess.run(
            [*self.prefix(), *argv], env={**self.environ(user), **(env or {})}, **{**settings, **options}
        )

    def prefix(self) -> list[str]:
        """Words to put before a command line so that it runs where the controller is; none without netns."""
        return namespace.enter(self._pid) if self.netns and self._pid else []

    def system(
        self, *words: str, user: str = "admin", env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run ``system`` with ``words`` as ``user``, in a process of its own."""
        return self.run([str(BIN / "system"), *words], user=user, env=env, **options)

    def client(self, user: str | None = "admin", password: str | None = None) -> IndependentClient:
        """A plain registry client as ``user``, None: without credentials. Not for a netns controller."""
        if user is None:
            return IndependentClient(self.url, self.ca_file)
        return IndependentClient(self.url, self.ca_file, user, password or self.passwords[user])

    def keystone_admin(self) -> Any:
        """python-keystoneclient's v3 client, as Keystone's administrator."""
        return self.keystone_client("admin")

    def keystone_client(self, user: str, password: str | None = None) -> Any:
        from keystoneauth1.identity.v3 import Password
        from keystoneauth1.session import Session
        from keystoneclient.v3.client import Client

        auth = Password(
            auth_url=self.auth_url,
            username=user,
            password=password or self.passwords[user],
            user_domain_name="Default",
            project_name=users.project_of(user),
            project_domain_name="Default",
        )
        return Client(session=Session(auth=auth, timeout=60), interface="public")

    @contextlib.contextmanager
    def registry_config(self, **changes: Any) -> Iterator[None]:
        """A registry restarted with ``changes`` (sections of config.yml, deep) until the context ends."""
        former = yaml.safe_load(self.registry_config_file.read_text())
        self.write_registry_config(registry.merged(former, changes))
        self.restart(REGISTRY)
        try:
            yield
        finally:
            self.write_registry_config(former)
            self.restart(REGISTRY)

    def set_clock(self, offset: str) -> None:
        """Set Keystone, token server and agent ``offset`` ahead of the real time: "+10m", "+1d", "+0"."""
        (self.root / "clock").write_text(f"{offset}\n")

    def keystone_requests(self) -> list[str]:
        """Keystone's access log so far, a line a request."""
        log = self.root / "keystone" / "access.log"
        return log.read_text().splitlines() if log.exists() else []

    # Insides

    def _running(self) -> bool:
        self._pid = self.supervisor.pid()
        return self._pid is not None

    def _reap(self) -> None:
        """End what a supervisord that is gone has left behind."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self.supervisor.marked():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            with contextlib.suppress(NotInTime):
                wait_until(lambda: not self.supervisor.marked(), 10, what="leftovers end")
        self._pid = None

    def _start_programs(self) -> None:
        self.load()
        for info in self.supervisor.call("getAllProcessInfo"):
            if info["statename"] not in ("RUNNING", "STARTING"):
                self.supervisor.call("startProcess", info["name"], False)

    def _check_ports(self) -> None:
        for name, port in self.ports.items():
            if taken := ports.listeners(port):
                by = ", ".join(ports.describe(pid) for pid in sorted(taken))
                raise DevstackError(f"port {port} ({name}) is taken by {by}: stop that first")

    def _spawn(self) -> None:
        prefix = [] if self._outlive else ["setpriv", "--pdeathsig", "TERM", "--"]
        if self.netns:
            prefix += namespace.enter_new(self.root)
        self._process = self.supervisor.spawn(prefix)
        try:
            self._pid = wait_until(self._spawned, 60, what="supervisord answers")
        except NotInTime as error:
            said = (self.root / "log" / "supervisord.out").read_text(errors="replace")
            raise DevstackError(f"{error}\n{said[-2000:]}") from None

    def _spawned(self) -> int | None:
        if self._process is None or self._process.poll() is not None:
            said = (self.root / "log" / "supervisord.out").read_text(errors="replace")
            raise DevstackError(f"supervisord ended: {said[-2000:]}")
        return self.supervisor.pid()

    def _trust(self) -> None:
        directory = self.trust_directory
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.ca_file, directory / "ca.crt")

    def _answers(self, name: str) -> bool:
        """Whether the program answers, and what answers carries our mark."""
        if self.supervisor.call("getProcessInfo", name)["statename"] == "FATAL":
            raise DevstackError(f"{name} ends at once")
        if name == AGENT:
            return self._curl("--unix-socket", str(self.agent_socket), "http://agent/health") == "200"
        key, url, good = {
            REGISTRY: ("registry", f"{self.url}/v2/", "401"),
            TOKEN_SERVER: ("token_server", self.token_url.replace("/token/", "/health"), "200"),
            KEYSTONE: ("keystone", self.auth_url, "200"),
        }[name]
        holders = ports.listeners(self.ports[key], self._pid or "self")
        if strangers := holders - self.supervisor.marked():
            by = ", ".join(ports.describe(pid) for pid in strangers)
            raise DevstackError(f"port {self.ports[key]} ({name}) is taken by {by}")
        return bool(holders) and self._curl("--cacert", str(self.ca_file), url) == good

    def _curl(self, *words: str) -> str:
        form = [
            "--silent",
            "--show-error",
            "--max-time",
            "10",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
        ]
        done = subprocess.run(
            [*self.prefix(), "curl", "--noproxy", "*", *form, *words],
            capture_output=True,
            text=True,
            timeout=20,
            env={"PATH": os.environ["PATH"]},
        )
        return done.stdout


def temporary_directory() -> Path:
    """Where temporary controllers stand: in memory if there is room.

    To remove the storage of 2,500 repositories takes a second there, and a minute on a disk with discard.
    """
    in_memory = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ROOMY
    return _MEMORY if in_memory else _DISK


def _sweep() -> None:
    """Remove temporary controllers whose test run was killed: nobody holds their lock any more."""
    for root in (*_MEMORY.glob(f"{_PREFIX}*"), *_DISK.glob(f"{_PREFIX}*")):
        with contextlib.suppress(OSError), (root / _OWNED).open() as owned:
            fcntl.flock(owned, fcntl.LOCK_EX | fcntl.LOCK_NB)
            controller = Controller(root)
            if (root / "ports.json").exists():
                controller.ports = json.loads((root / "ports.json").read_text())
            controller.remove()


def _check_root() -> None:
    if os.geteuid() != 0:
        raise DevstackError("the embedded controller needs root: run it as root or with sudo")
