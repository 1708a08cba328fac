"""supervisord as the embedded controller's service manager: its configuration, and talking to it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import xmlrpc.client
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import SupervisorTransport  # type: ignore[import-untyped]

# Every process of a controller has it in its environment. So those of a dead supervisord are found.
MARK = "SYSREG_DEVSTACK"
_BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Program:
    """One supervised process, named as its systemd unit is, or as the worker that it is."""

    name: str
    command: Sequence[str]
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = "TERM"
    #: whether it is started by a call, after the others
    is_late: bool = False


class Supervisor:
    """The supervisord of the controller in ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "supervisord.conf"
        self.log = root / "log"
        self._socket = root / "run" / "supervisor.sock"
        self._pid_file = root / "run" / "supervisord.pid"

    def write_config(self, programs: Iterable[Program]) -> None:
        lines = [
            "[unix_http_server]",
            f"file = {self._socket}",
            "chmod = 0700",
            "[supervisord]",
            "nodaemon = true",
            "user = root",
            f"logfile = {self.log}/supervisord.log",
            f"pidfile = {self._pid_file}",
            f"childlogdir = {self.log}",
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
            "[supervisorctl]",
            f"serverurl = unix://{self._socket}",
        ]
        for program in programs:
            environment = ",".join(f'{key}="{value}"' for key, value in program.environment.items())
            lines += [
                f"[program:{program.name}]",
                "command = " + " ".join(program.command).replace("%", "%%"),
                f"directory = {program.directory}",
                "environment = " + environment.replace("%", "%%"),
                f"autostart = {str(not program.is_late).lower()}",
                "autorestart = true",
                "startsecs = 1",
                f"stopsignal = {program.stop_signal}",
                "stopwaitsecs = 20",
                "killasgroup = true",
                "redirect_stderr = true",
                f"stdout_logfile = {self.log}/{program.name}.log",
                "stdout_logfile_maxbytes = 50MB",
                "stdout_logfile_backups = 1",
            ]
        self.config.write_text("\n".join(lines) + "\n")

    def ctl(self, *args: str) -> str:
        """A supervisorctl command line, for settings such as restart_command."""
        return " ".join([str(_BIN / "supervisorctl"), "-c", str(self.config), *args])

    def spawn(self, prefix: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start supervisord in a session of its own. ``prefix`` is a command line that executes the rest."""
        with (self.log / "supervisord.out").open("ab") as out:
            return subprocess.Popen(
                [*prefix, str(_BIN / "supervisord"), "-n", "-c", str(self.config)],
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", MARK: str(self.root)},
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def pid(self) -> int | None:
        """The process id of the supervisord that answers for this root, or None."""
        try:
            return int(self.call("getPID"))
        except (OSError, xmlrpc.client.Error):
            return None

    def call(self, method: str, *arguments: Any) -> Any:
        """One call of supervisor's XML-RPC API.

        Raises OSError if no supervisord answers, xmlrpc.client.Fault if it refuses.
        """
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        try:
            proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
            return getattr(proxy.supervisor, method)(*arguments)
        finally:
            transport.close()

    def keeps(self, name: str) -> bool:
        """Whether it keeps this program running: also one that it is about to start anew."""
        return self.call("getProcessInfo", name)["statename"] in ("STARTING", "RUNNING", "BACKOFF")

    def output(self) -> str:
        """The last that supervisord itself has written."""
        return (self.log / "supervisord.out").read_text(errors="replace")[-2000:]

    def processes(self) -> set[int]:
        """The ids of every process of this controller, also after the death of supervisord."""
        found = set()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == str(self.root):
                    found.add(process.pid)
        return found - {os.getpid()}
