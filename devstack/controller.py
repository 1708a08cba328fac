"""One embedded controller: its life, its programs, and what its users do."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from devstack import commands, hosts, keystone, namespace, provision, readiness, temporary, users, workers
from devstack.client import IndependentClient
from devstack.commands import BIN
from devstack.endpoints import NAMESPACE_ADDRESS, USUAL_PORTS, Endpoints
from devstack.errors import DevstackError
from devstack.keystone_server import REGION
from devstack.options import Options
from devstack.paths import Paths
from devstack.programs import REGISTRY
from devstack.supervisor import Supervisor
from devstack.waiting import NotInTime, wait_until

_TRUST = Path("/etc/docker/certs.d")
_PREFIX = "sysreg-controller-"


class Controller:
    """Keystone, docker-registry, token server and agent, with all their files below ``root``."""

    def __init__(self, root: Path, options: Options = Options()) -> None:  # noqa: B008 - it is frozen
        self.paths = Paths(root)
        self.options = options
        self.supervisor = Supervisor(root)
        self.ports: dict[str, int] = {}
        self.passwords: dict[str, str] = {}
        self._pid: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextlib.contextmanager
    def temporary(cls, options: Options = Options()) -> Iterator[Controller]:  # noqa: B008 - it is frozen
        """A started controller in a directory of its own; both are gone in the end."""
        with temporary.directory(_PREFIX, remove=_remove_abandoned) as root:
            controller = cls(root, options)
            try:
                controller.start()
                yield controller
            finally:
                controller.remove()

    # Names and addresses

    @property
    def endpoints(self) -> Endpoints:
        """Where the programs listen."""
        return Endpoints(NAMESPACE_ADDRESS if self.options.netns else "127.0.0.1", self.ports)

    @property
    def address(self) -> str:
        """registry.local:<port>, as in image references."""
        return self.endpoints.address

    @property
    def url(self) -> str:
        """The registry's URL."""
        return self.endpoints.url

    @property
    def token_url(self) -> str:
        """Where clients get tokens."""
        return self.endpoints.token_url

    @property
    def auth_url(self) -> str:
        """Keystone's URL, OS_AUTH_URL."""
        return self.endpoints.auth_url

    @property
    def programs(self) -> list[str]:
        """The names of the programs that it runs."""
        return [program.name for program in commands.programs(self.paths, self.options)]

    @property
    def workers(self) -> dict[str, workers.Worker]:
        """Its workers by name."""
        return {one.name: one for one in workers.named(self.paths.workers, self.options.hosts)}

    @property
    def trust_directory(self) -> Path:
        """/etc/docker/certs.d/<address>, where docker and skopeo look: in the controller's own namespace."""
        return self.path(_TRUST / self.address)

    def path(self, inside: Path) -> Path:
        """The path by which this process reaches a path inside the controller's mount namespace."""
        return Path(f"/proc/{self._pid}/root{inside}") if self.options.netns else inside

    # Life

    def start(self) -> None:
        """Start what does not run yet, and return when every program answers.

        Raises DevstackError: not root, a port that another process holds, a program that does not come up
        (with the end of its log).
        """
        _check_root()
        os.umask(0o022)  # the registry's user has to reach what it serves
        if self._is_running():
            self._start_programs()
        else:
            self._end_leftovers()
            self._provision()
            self.set_clock("+0")
            self.supervisor.write_config(commands.programs(self.paths, self.options))
            if not self.options.netns:
                hosts.make_resolvable()
                shared = {"keystone"} if self.options.running_keystone else set()
                readiness.check_free({name: self.ports[name] for name in self.ports.keys() - shared})
                self._trust()
            self._spawn()
            if self.options.netns:
                self._trust()
        if self.options.hosts:
            from devstack import cluster  # not imported without hosts

            cluster.start(self)
        self.wait_ready()

    def stop(self) -> None:
        """Stop every process of this controller, also after a crash of its supervisor; its data stay."""
        if self._is_running():
            with contextlib.suppress(OSError):
                self.supervisor.call("stopAllProcesses", False)  # all at once; shutdown alone: one by one
                self.supervisor.call("shutdown")
            with contextlib.suppress(NotInTime):
                wait_until(lambda: not self.supervisor.processes(), 30, what="controller stops")
        self._end_leftovers()
        if self._process is not None:
            self._process.wait(timeout=10)
            self._process = None
        if not self.options.netns and "registry" in self.ports:
            shutil.rmtree(_TRUST / self.address, ignore_errors=True)
        for name in ("supervisor.sock", "supervisord.pid", "agent.sock"):
            (self.paths.run / name).unlink(missing_ok=True)

    def remove(self) -> None:
        """Kill every process, and remove every file."""
        # supervisord first: it would start anew what is killed
        for pid in [self.supervisor.pid(), *sorted(self.supervisor.processes())]:
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.stop()
        shutil.rmtree(self.paths.root, ignore_errors=True)

    def wait_ready(self, *programs: str, deadline: float = 180.0) -> None:
        """Wait until ``programs``, all by default, answer. Raises DevstackError.

        That is also raised if another process holds the port of one of them.
        """
        probe = readiness.Probe(self.paths, self.endpoints, self.supervisor, self.prefix())
        own = [name for name in self.programs if name not in self.workers]
        for name in programs or own:
            try:
                wait_until(functools.partial(probe.answers, name), deadline, what=f"{name} answers")
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
        """What one program has written so far, to standard output and standard error."""
        try:
            return (self.paths.log / f"{program}.log").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    # Use

    def environ(self, user: str = "admin") -> dict[str, str]:
        """The environment of a shell that sourced the openrc of ``user``, with a home of that user."""
        home = self.paths.root / "home" / user
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
            "OS_REGION_NAME": REGION,
            "OS_INTERFACE": "internal",
            "OS_IDENTITY_API_VERSION": "3",
            "SYSREG_CONF": str(self.paths.settings),
            "SYSREG_REGISTRY": self.address,
            "SYSREG_REGISTRY_CA": str(self.paths.ca_file),
            "SYSREG_AGENT": str(self.paths.agent_socket),
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
        """What precedes a command line so that it runs where the controller is: nothing without netns."""
        return namespace.enter(self._pid) if self.options.netns and self._pid else []

    def system(
        self, *args: str, user: str = "admin", env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run ``system`` as ``user``, in a process of its own. The options are those of ``run``."""
        return self.run([str(BIN / "system"), *args], user=user, env=env, **options)

    def client(self, user: str | None = "admin", password: str | None = None) -> IndependentClient:
        """A plain registry client as ``user``, None: without credentials. Not for a netns controller."""
        if user is None:
            return IndependentClient(self.url, self.paths.ca_file)
        return IndependentClient(self.url, self.paths.ca_file, user, password or self.passwords[user])

    def keystone_admin(self) -> Any:
        """python-keystoneclient's v3 client, as Keystone's administrator."""
        return self.keystone_client("admin")

    def keystone_client(self, user: str, password: str | None = None) -> Any:
        """python-keystoneclient's v3 client, as ``user``. Not for a netns controller."""
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
        """Restart the registry with ``changes`` of config.yml, at any depth, until the context ends."""
        former = yaml.safe_load(self.paths.registry_config.read_text())
        provision.replace_registry_config(self.paths, provision.merged(former, changes))
        self.restart(REGISTRY)
        try:
            yield
        finally:
            provision.replace_registry_config(self.paths, former)
            self.restart(REGISTRY)

    def set_clock(self, offset: str) -> None:
        """Set the fake clock ahead of the real time by ``offset``: "+10m", "+1d", "+0"."""
        self.paths.clock.write_text(f"{offset}\n")

    def keystone_requests(self) -> list[str]:
        """Keystone's access log so far, a line for each request."""
        log = self._keystone_directory / "access.log"
        return log.read_text().splitlines() if log.exists() else []

    # Insides

    @property
    def _keystone_directory(self) -> Path:
        running = self.options.running_keystone
        return running.directory if running else self.paths.keystone

    def _provision(self) -> None:
        """Write every file. Keys, database and images that exist stay."""
        for directory in (self.paths.run, self.paths.log, self.paths.storage.parent):
            directory.mkdir(parents=True, exist_ok=True)
        self.ports = provision.choose_ports(self.paths, self.options)
        if not self.options.running_keystone:
            keystone.provision(self.paths.keystone, self.ports["keystone"], self.options.keystone)
        self.passwords = keystone.passwords(self._keystone_directory)
        settings = provision.write_settings(self.paths, self.endpoints, self.supervisor, self.options)
        provision.make_accounts_and_directories(settings)
        provision.make_keys(settings)
        provision.write_registry_config(self.paths, self.endpoints, settings, self.options.registry)
        if self.options.hosts:
            from devstack import cluster

            cluster.provision(self.paths, self.endpoints, settings.cluster, self.options.hosts)

    def _load(self) -> None:
        """Read what ``_provision`` wrote, maybe in another process."""
        self.ports = json.loads(self.paths.ports.read_text())
        self.passwords = keystone.passwords(self._keystone_directory)

    def _is_running(self) -> bool:
        self._pid = self.supervisor.pid()
        return self._pid is not None

    def _end_leftovers(self) -> None:
        """End the processes that a dead supervisord left."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self.supervisor.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            with contextlib.suppress(NotInTime):
                wait_until(lambda: not self.supervisor.processes(), 10, what="leftovers end")
        self._pid = None

    def _start_programs(self) -> None:
        self._load()
        for program in commands.programs(self.paths, self.options):
            if not program.is_late and not self.supervisor.keeps(program.name):
                self.supervisor.call("startProcess", program.name, False)

    def _spawn(self) -> None:
        prefix = [] if self.options.outlive else ["setpriv", "--pdeathsig", "TERM", "--"]
        if self.options.netns:
            prefix += namespace.enter_new(self.paths.root)
        self._process = self.supervisor.spawn(prefix)
        try:
            self._pid = wait_until(self._spawned, 60, what="supervisord answers")
        except NotInTime as error:
            raise DevstackError(f"{error}\n{self.supervisor.output()}") from None

    def _spawned(self) -> int | None:
        if self._process is None or self._process.poll() is not None:
            raise DevstackError(f"supervisord ended: {self.supervisor.output()}")
        return self.supervisor.pid()

    def _trust(self) -> None:
        directory = self.trust_directory
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.paths.ca_file, directory / "ca.crt")


def _remove_abandoned(root: Path) -> None:
    """Remove a temporary controller whose test run was killed."""
    controller = Controller(root)
    with contextlib.suppress(FileNotFoundError):
        found = json.loads(controller.paths.ports.read_text())
        if (
            found["registry"] != USUAL_PORTS["registry"]
        ):  # a namespace's: outside, the trust for these ports is another controller's
            controller.ports = found
    controller.remove()


def _check_root() -> None:
    if os.geteuid() != 0:
        raise DevstackError("the embedded controller needs root: run it as root or with sudo")
